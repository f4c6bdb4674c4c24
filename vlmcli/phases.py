"""How long each phase of the work takes, noted where it is done: for `--stats`.

Phases may run side by side, so that together they can last longer than all did.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TypeVar

T = TypeVar("T")

_lock = Lock()
_seconds: dict[str, float] = {}


@contextmanager
def noted(name: str) -> Iterator[None]:
    """Count the time in the block, or in each call of the decorated function, to a phase."""
    began = time.perf_counter()
    with _lock:
        _seconds.setdefault(name, 0.0)  # in the order in which they begin
    try:
        yield
    finally:
        with _lock:
            _seconds[name] = _seconds.get(name, 0.0) + time.perf_counter() - began


def each(name: str, items: Iterable[T]) -> Iterator[T]:
    """The items, and the time that it takes to get them counted to a phase."""
    left = iter(items)
    while True:
        with noted(name):
            try:
                item = next(left)
            except StopIteration:
                return
        yield item


def take() -> dict[str, float]:
    """Seconds in each phase since this was last asked, the first to begin first."""
    with _lock:
        taken = dict(_seconds)
        _seconds.clear()
    return taken
