"""An answer on stdout while it arrives: Markdown on a terminal, plain text everywhere else.

What a model thinks before it answers goes to stderr.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol, TextIO

from vlmcli.messages import Chunk, Done, Thought
from vlmcli.output.terminal import console, styled, write
from vlmcli.output.text import clean


def stream(
    chunks: Iterator[Chunk], *, live: bool = True, reasoning: bool = True, markdown: bool = True
) -> tuple[str, Done]:
    """Print an answer as it arrives (or, if not `live`, when it is complete); returns it all.

    Without `markdown` it is printed as it is, on a terminal too. Thoughts are printed on stderr if
    `reasoning`, and returned in no case. If something breaks the answer off, all that had arrived
    stays on the screen, on lines of its own. `chunks` is closed in every case.
    """
    printer = printer_for(sys.stdout) if markdown else PlainPrinter(sys.stdout)
    thinking = DimPrinter(sys.stderr)
    thoughts: list[str] = []
    pieces: list[str] = []
    done: Done | None = None
    try:
        for chunk in chunks:
            if isinstance(chunk, Done):
                done = chunk
            elif isinstance(chunk, Thought):
                thoughts.append(clean(chunk.text))
                if live and reasoning:
                    thinking.add(thoughts[-1])
            else:
                pieces.append(clean(chunk.text))
                if live:
                    thinking.finish()  # both may be on one terminal: a line of its own for each
                    printer.add(pieces[-1])
    except BaseException:
        if live and pieces:
            with suppress(OSError):  # the reader of stdout may be the one who left
                printer.finish()
        raise
    finally:
        getattr(chunks, "close", lambda: None)()
        thinking.finish()
    text = "".join(pieces)
    if not live:
        if reasoning:
            thinking.add("".join(thoughts))
            thinking.finish()
        printer.add(text)
    printer.finish()
    if done is None:
        raise RuntimeError("an answer ended without Done")
    return text, done


class Printer(Protocol):
    """Shows a cleaned text that arrives in pieces; after `finish` the cursor is on a new line."""

    def add(self, text: str) -> None: ...
    def finish(self) -> None: ...


def printer_for(file: TextIO) -> Printer:
    screen = console(file)
    if screen is None:
        return PlainPrinter(file)
    from vlmcli.output.live import MarkdownPrinter

    return MarkdownPrinter(file, screen)


class PlainPrinter:
    """Each piece at once, exactly as it is."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._last = ""

    def add(self, text: str) -> None:
        if text:
            write(self._file, text)
            self._last = text[-1]

    def finish(self) -> None:
        if self._last != "\n":
            write(self._file, "\n")


class DimPrinter:
    """Each piece at once, where there are styles in a dim one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._last = ""
        # The text goes between the marks, not through rich, which would lay it out.
        self._on, _, self._off = styled(file, ("x", "dim")).partition("x")

    def add(self, text: str) -> None:
        if text:
            write(self._file, f"{self._on}{text}{self._off}")
            self._last = text[-1]

    def finish(self) -> None:
        """Ends the line, if one was begun; more may come."""
        if self._last not in ("", "\n"):
            write(self._file, "\n")
        self._last = ""
