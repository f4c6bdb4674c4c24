"""An answer on stdout while it arrives: Markdown on a terminal, plain text everywhere else."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol, TextIO

from vlmcli.messages import Chunk, Done
from vlmcli.output.terminal import console, write
from vlmcli.output.text import clean


def stream(chunks: Iterator[Chunk], *, live: bool = True) -> tuple[str, Done]:
    """Print an answer as it arrives (or, if not `live`, when it is complete); returns it all.

    If something breaks it off, all that had arrived stays on the screen, on lines of its own.
    `chunks` is closed in every case.
    """
    printer = printer_for(sys.stdout)
    pieces: list[str] = []
    done: Done | None = None
    try:
        for chunk in chunks:
            if isinstance(chunk, Done):
                done = chunk
                continue
            pieces.append(clean(chunk.text))
            if live:
                printer.add(pieces[-1])
    except BaseException:
        if live and pieces:
            with suppress(OSError):  # the reader of stdout may be the one who left
                printer.finish()
        raise
    finally:
        getattr(chunks, "close", lambda: None)()
    text = "".join(pieces)
    if not live:
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
