"""Named files, read on threads before it is their turn: in order, and within bounds.

What is decided about a file (whether it is wanted, what to do with it) is decided by whoever takes
it out, on one thread; here nothing but the waiting for a disk, a network and a decoder is done
meanwhile.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Full, Queue, SimpleQueue
from threading import Event, Thread
from types import TracebackType
from typing import Self, TypeVar

import PIL.Image

from vlmcli.errors import InputError
from vlmcli.inputs import pictures
from vlmcli.inputs.listing import Found
from vlmcli.inputs.pictures import Unread
from vlmcli.settings import Settings
from vlmcli.sources import Source

T = TypeVar("T")

_NAMES = 256
_FILES = 16
_BYTES = 128_000_000
_UNKNOWN_BYTES = 4_000_000
"""Of a file that is not on the disk."""
_STOP_S = 0.1


class Pool:
    """A few threads for short work; none of them keeps the program from ending."""

    def __init__(self, count: int | None = None) -> None:
        PIL.Image.init()  # is no work for two threads at once
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._count = count or max(2, min(8, (os.cpu_count() or 2) // 2))
        for _ in range(self._count):
            Thread(target=self._work, daemon=True).start()

    def submit(self, work: Callable[[], T]) -> "Future[T]":
        """What `work()` will return or raise."""
        future: Future[T] = Future()

        def job() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(work())
            except BaseException as error:  # handed to the reader, which raises it
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What has not begun never will; what is under way is not waited for."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _thread in range(self._count):
            self._jobs.put(None)


@dataclass(frozen=True, slots=True)
class File:
    """What was named: its pictures, or why there are none; None if it was not wanted."""

    name: str
    source: Source | None
    pictures: list[Unread] | InputError | None


@dataclass(frozen=True, slots=True)
class _Begun:
    name: str
    source: Source | None
    reading: "Future[list[Unread]] | InputError | None"
    nbytes: int


class Files:
    """The files that `inputs` names, which are found and read ahead on threads.

    `wanted` is asked on the thread that takes the files, before anything is read of one; it may
    raise InputError. An error of `inputs` itself is raised in its place. To be closed.
    """

    def __init__(
        self,
        inputs: Iterable[Found],
        settings: Settings,
        pool: Pool,
        wanted: Callable[[Source], bool] = lambda source: True,
    ) -> None:
        self._settings, self._pool, self._wanted = settings, pool, wanted
        self._names: Queue[Found | BaseException | None] = Queue(_NAMES)
        self._stop = Event()
        self._begun: deque[_Begun | BaseException] = deque()
        self._ended = False
        Thread(target=self._list, args=(iter(inputs),), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()

    def ready(self, wait_s: float = 0.0) -> bool:
        """Whether the next one, or the end, is there without further waiting."""
        self._read_ahead()
        if not self._begun and not self._ended:
            self._read_ahead(wait_s)
        if not self._begun:
            return self._ended
        first = self._begun[0]
        if isinstance(first, _Begun) and isinstance(first.reading, Future):
            with suppress(TimeoutError):
                first.reading.exception(wait_s)
            return first.reading.done()
        return True

    def __iter__(self) -> Iterator[File]:
        while True:
            while not self._begun and not self._ended:
                self._read_ahead(None)
            if not self._begun:
                return
            first = self._begun.popleft()
            if isinstance(first, BaseException):
                raise first
            found = _result_of(first.reading)
            self._read_ahead()
            yield File(first.name, first.source, found)

    def _list(self, inputs: Iterator[Found]) -> None:
        """Runs on a thread of its own: a folder is long, and a list may come slowly."""
        try:
            for found in inputs:
                self._put(found)
                if self._stop.is_set():
                    return
            self._put(None)
        except BaseException as error:  # handed to the reader, which raises it
            self._put(error)

    def _put(self, item: Found | BaseException | None) -> None:
        while not self._stop.is_set():
            with suppress(Full):
                self._names.put(item, timeout=_STOP_S)
                return

    def _read_ahead(self, wait_s: float | None = 0.0) -> None:
        """Begin with files as long as there is room; wait for the first of them, None for ever."""
        while not self._ended and self._has_room():
            try:
                item = self._names.get(timeout=wait_s) if wait_s != 0 else self._names.get_nowait()
            except Empty:
                return
            wait_s = 0.0
            if item is None:
                self._ended = True
            elif isinstance(item, BaseException):
                self._begun.append(item)
                self._ended = True
            else:
                self._begun.append(self._begin(*item))

    def _has_room(self) -> bool:
        held = [one.nbytes for one in self._begun if isinstance(one, _Begun)]
        return not held or (len(held) < _FILES and sum(held) < _BYTES)

    def _begin(self, name: str, source: Source | InputError) -> _Begun:
        if isinstance(source, InputError):
            return _Begun(name, None, source, 0)
        try:
            if not self._wanted(source):
                return _Begun(name, source, None, 0)
        except InputError as error:
            return _Begun(name, source, error, 0)
        reading = self._pool.submit(lambda: [*pictures.find(source, self._settings)])
        return _Begun(name, source, reading, _size_of(source))


def _result_of(
    reading: "Future[list[Unread]] | InputError | None",
) -> list[Unread] | InputError | None:
    if not isinstance(reading, Future):
        return reading
    try:
        return reading.result()
    except InputError as error:
        return error


def _size_of(source: Source) -> int:
    with suppress(OSError, ValueError):
        if source.kind == "path":
            return os.stat(source.location).st_size  # noqa: PTH116
    return _UNKNOWN_BYTES
