"""What decoders say by themselves, kept from the user; on any thread, and no other loses a word."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, RLock

stderr_lock = RLock()
"""Held by who writes to stderr, and by who leads it elsewhere for a while."""


class _NoWarnings:
    """Nobody is warned of anything while one thread at least is in it.

    What Python has for this puts back what the thread found that left, in whatever order.
    """

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._ignoring = warnings.catch_warnings(action="ignore")
                self._ignoring.__enter__()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._ignoring.__exit__(None, None, None)


no_warnings = _NoWarnings()


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Nothing written to file descriptor 2: libtiff, inside Pillow, prints its complaints there.

    All threads would lose what they write to stderr meanwhile: those that hold the lock do not.
    """
    with stderr_lock:
        try:
            saved = os.dup(2)
        except OSError:  # closed: nothing to protect
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
