"""Markdown that is drawn on a terminal while it is still being written."""

import time
from threading import Lock, Timer
from typing import TextIO

from rich.console import Console

from vlmcli.output import markdown
from vlmcli.output.terminal import write

REDRAW_S = 0.05
REDRAW_SHARE = 5  # a redraw is followed by this many times its own cost without one


class MarkdownPrinter:
    """Finished blocks for good; the last, unfinished block as far as the screen has room for it.

    A timer redraws, so that what came in a burst is shown even if nothing comes after it.
    """

    def __init__(self, file: TextIO, screen: Console) -> None:
        self._screen = screen
        self._region = Region(file)
        self._pending = ""  # the source that is not printed for good
        self._apart = False  # whether a blank line comes before it
        self._lock = Lock()  # held while any of the above changes
        self._timer: Timer | None = None
        self._due_s = 0.0
        self._failure: BaseException | None = None

    def add(self, text: str) -> None:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            self._pending += text
            if self._timer is None:
                self._timer = Timer(max(0.0, self._due_s - time.monotonic()), self._redraw)
                self._timer.daemon = True
                self._timer.start()

    def finish(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            rest = markdown.split(self._pending, apart=self._apart)
            self._pending = ""
            self._region.draw(self._finished(rest), [])

    def _redraw(self) -> None:
        with self._lock:
            self._timer = None
            started_s = time.monotonic()
            try:
                self._draw()
            except BaseException as error:  # handed to the next `add`, which raises it
                self._failure = error
            ended_s = time.monotonic()
            self._due_s = ended_s + max(REDRAW_S, REDRAW_SHARE * (ended_s - started_s))

    def _draw(self) -> None:
        complete, newline, half_line = self._pending.rpartition("\n")
        blocks = markdown.split(complete + newline, apart=self._apart)
        finished = self._finished(blocks[:-1])
        if finished:
            self._pending = blocks[-1].source + half_line
            self._apart = blocks[-1].apart
        rows = max(1, self._screen.size.height - 1)
        unfinished: list[str] = []
        for block in markdown.split(markdown.preview(self._pending, rows), apart=self._apart):
            lines = markdown.render(block.source, self._screen)
            unfinished += [""] * (block.apart and bool(lines)) + lines
        self._region.draw(finished, unfinished[-rows:])

    def _finished(self, blocks: list[markdown.Block]) -> list[str]:
        lines: list[str] = []
        for block in blocks:
            lines += [""] * block.apart + markdown.render_finished(block.source, self._screen)
        return lines


class Region:
    """The last lines on a terminal, which may still change; the cursor rests below them.

    Used in place of rich's Live, which erases and repaints every line at each refresh and hides the
    cursor: here a line that stays the same is never written again, and there is nothing to restore.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: list[str] = []

    def draw(self, finished: list[str], unfinished: list[str]) -> None:
        """Replace the region by `finished`, which leave it for good, and `unfinished`."""
        lines = finished + unfinished
        same = 0
        for old, new in zip(self._lines, lines, strict=False):
            if old != new:
                break
            same += 1
        up = len(self._lines) - same
        if finished or up or same < len(lines):
            move = f"\x1b[{up}A" if up else ""
            # Erased line by line: many terminals answer an erased window by keeping a copy of it in
            # their history. The last erasure is for the ^C that a terminal echoes.
            text = "".join(f"\x1b[2K{line}\n" for line in lines[same:])
            write(self._file, f"{move}\r{text}\x1b[J")
        self._lines = unfinished
