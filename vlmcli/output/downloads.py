"""How a download is shown: bars on a terminal, a plain line for each tenth anywhere else."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from threading import RLock
from typing import TYPE_CHECKING

from vlmcli.output.terminal import console, running, styled, write
from vlmcli.output.text import fold

if TYPE_CHECKING:
    from rich.console import Console

QUIET_S = 1.0
"""A download that takes no longer is not worth a line where there is no terminal."""


@contextmanager
def downloads() -> Iterator["_Lines | _Bars"]:
    """What shows a download that goes on meanwhile; see `hub.Watch` for what it is told."""
    screen = console(sys.stderr)
    if screen is None:
        yield _Lines()
        return
    with closing(_Bars(screen)) as bars:
        yield bars


class _Lines:
    """Plain lines for a log."""

    def __init__(self) -> None:
        self._repo, self._total, self._done = "", 0, 0
        self._tenth, self._began = 0, 0.0
        self._lock = RLock()

    def expect(self, repo: str, total: int, done: int) -> None:
        self._repo, self._total, self._done = repo, total, done
        self._began = time.monotonic()
        self._tenth = self._reached()
        if done:
            self._say(f"going on with {repo} at {percent(done, total)} of {size(total)}")

    def start(self, file: str, total: int, done: int) -> None:
        pass

    def advance(self, file: str, count: int) -> None:
        with self._lock:
            self._done += count
            seconds = time.monotonic() - self._began
            if self._reached() > self._tenth and seconds > QUIET_S:
                self._tenth = self._reached()
                done = percent(self._done, self._total)
                self._say(f"downloading {self._repo}: {done} of {size(self._total)}")

    def finish(self, file: str) -> None:
        pass

    def wait(self, file: str) -> None:
        self._say(f"waiting for another process that downloads {file}")

    def _reached(self) -> int:
        return 10 * self._done // max(1, self._total)

    def _say(self, text: str) -> None:
        write(sys.stderr, styled(sys.stderr, ("vlm:", ""), (" ", ""), (fold(text), "")) + "\n")


class _Bars:
    """A bar for each file under way, and one for all of them."""

    def __init__(self, screen: "Console") -> None:
        self._screen = screen
        self._shown = ExitStack()

    def expect(self, repo: str, total: int, done: int) -> None:
        from vlmcli.output.bars import DownloadBars

        self.close()  # the bars of the texts, when the weights follow
        self._bars = DownloadBars(fold(repo), total, done, self._screen)
        self._shown.enter_context(running(self._bars))

    def start(self, file: str, total: int, done: int) -> None:
        self._bars.start(fold(file), total, done)

    def advance(self, file: str, count: int) -> None:
        self._bars.advance(fold(file), count)

    def finish(self, file: str) -> None:
        self._bars.finish(fold(file))

    def wait(self, file: str) -> None:
        self._bars.wait(fold(file))

    def close(self) -> None:
        self._shown.close()


def percent(done: int, total: int) -> str:
    return f"{100 * done // max(1, total)} %"


def size(count: int) -> str:
    """As people write it: 1.2 GB, 340 MB, 12 kB."""
    for unit, bytes_of_it in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_of_it:
            shown = count / bytes_of_it
            return f"{shown:.1f} {unit}" if shown < 10 else f"{shown:.0f} {unit}"
    return f"{count} B"
