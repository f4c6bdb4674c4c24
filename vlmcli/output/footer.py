"""A progress bar and a spinner at the foot of the terminal; nothing at all where there is none."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from vlmcli.output.terminal import console, running
from vlmcli.output.text import fold


class Meter(Protocol):
    """Counts what is done, and what of it failed; `visible` is whether anyone can see it."""

    visible: bool

    def expect(self, total: int) -> None: ...

    def advance(self, failed: bool = False) -> None: ...


class Unseen:
    """A meter where there is no terminal."""

    visible = False

    def expect(self, total: int) -> None:
        pass

    def advance(self, failed: bool = False) -> None:
        pass


@contextmanager
def progress(total: int | None) -> Iterator[Meter]:
    """A bar on stderr while many inputs are worked through; `total` is None if it is not known yet.

    One input has none: its answer is on the screen already.
    """
    screen = console(sys.stderr)
    if screen is None or total == 1:
        yield Unseen()
        return
    from vlmcli.output.bars import Bar

    bar = Bar(total, screen)
    with running(bar):
        yield bar


@contextmanager
def status(text: str) -> Iterator[None]:
    """A spinner and `text` on stderr while something takes its time."""
    screen = console(sys.stderr)
    if screen is None:
        yield
        return
    from vlmcli.output.bars import spinner

    with running(spinner(fold(text), screen)):
        yield
