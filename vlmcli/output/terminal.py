"""The one way out: what a stream can show, and writing to it past a bar that is being drawn.

rich is imported only where a terminal is there to show it: a pipe does not pay for it.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import RLock
from typing import TYPE_CHECKING, Protocol, TextIO

from vlmcli.errors import OutputError
from vlmcli.silence import stderr_lock

if TYPE_CHECKING:
    from rich.console import Console


class Footer(Protocol):
    """Something drawn below all other lines of the terminal: a progress bar, a spinner."""

    def show(self) -> None: ...
    def hide(self) -> None: ...


_footers: list[Footer] = []  # at most one; a second would draw over the first
_writing = RLock()  # so that the lines of two threads do not mix


@contextmanager
def running(footer: Footer) -> Iterator[None]:
    """Keep `footer` on the terminal, below everything that is written meanwhile."""
    if _footers:
        yield
        return
    footer.show()
    _footers.append(footer)
    try:
        yield
    finally:
        _footers.remove(footer)
        footer.hide()


def encoding(file: TextIO) -> str:
    return getattr(file, "encoding", None) or "utf-8"


def write(file: TextIO, text: str) -> None:
    """Write at once; what the encoding of `file` lacks is written as a backslash escape.

    Raises OutputError if there is no room for an answer, BrokenPipeError if nobody reads it; what
    cannot be said on stderr is not said.
    """
    charset = encoding(file)
    try:
        with _hidden_footers(file), stderr_lock if file is sys.stderr else nullcontext():
            file.write(text.encode(charset, "backslashreplace").decode(charset))
            file.flush()
    except OSError as error:
        if file is sys.stderr:
            return
        if isinstance(error, BrokenPipeError):
            raise
        reason = (error.strerror or str(error)).lower()
        raise OutputError("the answer cannot be written", hint=reason) from error


def write_path(file: TextIO, path: str) -> None:
    """Write the name of a file with the exact bytes that it has on the disk."""
    binary = getattr(file, "buffer", None)
    if binary is None:
        file.write(path)
    else:
        file.flush()
        binary.write(os.fsencode(path))


@contextmanager
def _hidden_footers(file: TextIO) -> Iterator[None]:
    with _writing:
        footers = list(_footers) if file.isatty() else []
        for footer in footers:
            footer.hide()
        try:
            yield
        finally:
            for footer in footers:
                footer.show()


def console(file: TextIO) -> "Console | None":
    """A rich console on `file`, or None where only plain text can go.

    Plain are a pipe, a file, a dumb terminal, and one that lacks the characters rich draws with.
    """
    dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    if dumb or not file.isatty() or not encoding(file).lower().startswith("utf"):
        return None
    from rich.console import Console

    found = Console(file=file, force_terminal=True, markup=False, highlight=False, emoji=False)
    return None if found.legacy_windows else found


def styled(file: TextIO, *parts: tuple[str, str]) -> str:
    """The texts of `parts` (text, style) joined, in their styles where `file` shows styles."""
    screen = console(file)
    if screen is None:
        return "".join(text for text, _ in parts)
    from rich.text import Text

    with screen.capture() as captured:
        screen.print(Text.assemble(*parts), end="", soft_wrap=True)
    return captured.get()
