"""Work on a thread that Ctrl-C can end, also while it waits for a network."""

import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")

IDLE, COMPUTING = "vlm idle", "vlm computing"
"""What the thread of the models is called, as it waits and as it works."""


class Stop(Event):
    """Ctrl-C, for the threads of a download: hangs up whatever they wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.sockets: set[socket.socket] = set()

    def set(self) -> None:
        super().set()
        for line in tuple(self.sockets):
            with suppress(OSError):  # closed meanwhile
                socket.socket.shutdown(line, socket.SHUT_RDWR)  # TLS's own would say goodbye first

    def check(self) -> None:
        if self.is_set():
            raise KeyboardInterrupt


def all_idle() -> bool:
    """Whether the program can end: no other thread is at work."""
    return all(one is threading.main_thread() or one.name == IDLE for one in threading.enumerate())


@contextmanager
def first_only() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt; while that is dealt with, more do nothing."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before in (signal.SIG_IGN, None):  # `vlm chat … &`, or a handler that is none of Python's
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interruptible(work: Callable[[Stop], T], deadline_s: float = math.inf) -> T:
    """What `work(stop)` returns or raises; on Ctrl-C sets `stop` and gives it 2 s to tidy up.

    It runs on a thread: snapshot_download holds Ctrl-C until the files under way are done.
    Raises TimeoutError at the deadline, and leaves the work alone.
    """
    stop = Stop()
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work(stop))
        except BaseException as error:  # handed to the caller, which raises it
            failures.append(error)

    thread = Thread(target=run, daemon=True)
    end = time.monotonic() + deadline_s
    try:
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
            if time.monotonic() > end:
                raise TimeoutError
    except KeyboardInterrupt:
        stop.set()
        thread.join(2)
        raise
    if failures:
        raise failures[0]
    return results[0]
