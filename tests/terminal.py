"""A real pseudo-terminal: run a command in it, type into it, and read what its screen shows."""

import codecs
import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

_WHERE = "\x1b[6n"  # a program asks where the cursor is

# Anything of the developer's own environment that changes what a program shows on a terminal.
_DECIDED_HERE = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "COLORTERM", "TTY_INTERACTIVE"}
_ESCAPE = re.compile(
    r"\x1b\[(?P<numbers>[\d;?]*)(?P<command>[@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^\[\]]"
)


@dataclass(slots=True)
class Terminal:
    """A command that runs in a terminal, and everything it has written there so far."""

    process: subprocess.Popen[bytes]
    columns: int
    rows: int
    _side: int  # ours of the pseudo-terminal
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace")
    )
    text: str = ""
    _told: int = 0  # how often it was asked where the cursor is, and told so

    def send(self, typed: bytes) -> None:
        """Type; b"\\x03" is Ctrl-C and reaches the command as SIGINT."""
        os.write(self._side, typed)

    def read_until(self, text: str, timeout_s: float = 10.0) -> str:
        """All output so far, as soon as it holds `text`; AssertionError if that takes too long."""
        deadline_s = time.monotonic() + timeout_s
        while text not in self.text:
            if not self._read(deadline_s):
                raise self._stuck(f"no {text!r} within {timeout_s} s")
        return self.text

    def wait(self, timeout_s: float = 10.0) -> int:
        """The exit status (minus the signal, if one ended the command), with all output read."""
        deadline_s = time.monotonic() + timeout_s
        while self._read(deadline_s):
            pass
        try:
            return self.process.wait(max(0.1, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._stuck(f"still running after {timeout_s} s") from None
        finally:
            os.close(self._side)

    def screen(self) -> list[str]:
        """What a person sees, scrolled-off lines included, without colours and trailing blanks."""
        return screen(self.text, self.columns, self.rows)

    def _stuck(self, problem: str) -> AssertionError:
        self.process.kill()
        self.process.wait()
        return AssertionError(f"{problem}; so far: {self.text!r}")

    def _read(self, deadline_s: float) -> bool:
        ready, _, _ = select.select([self._side], [], [], max(0.0, deadline_s - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._side, 65536)
        except OSError:  # how Linux says that the last program has left the terminal
            data = b""
        self.text += self._decoder.decode(data)
        self._tell_cursor()
        return bool(data)

    def _tell_cursor(self) -> None:
        asked = [found.end() for found in re.finditer(re.escape(_WHERE), self.text)]
        for end in asked[self._told :]:
            paper = _drawn(self.text[:end], self.columns, self.rows)
            row, column = paper.row - paper.top + 1, paper.column + 1
            os.write(self._side, f"\x1b[{row};{column}R".encode())
            self._told += 1


def spawn(
    args: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    columns: int = 80,
    rows: int = 24,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
) -> Terminal:
    """Start a command whose standard streams are a new terminal.

    `env` is added to this process's environment. `stdout` and `stderr` may go elsewhere instead, to
    a file or to subprocess.PIPE (then read `process.stdout`).
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in _DECIDED_HERE}
    process = subprocess.Popen(
        list(args),
        stdin=theirs,
        stdout=theirs if stdout is None else stdout,
        stderr=theirs if stderr is None else stderr,
        env=kept | {"TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | dict(env or {}),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C finds the command
    )
    os.close(theirs)
    return Terminal(process, columns, rows, ours)


def screen(text: str, columns: int, rows: int) -> list[str]:
    """The lines on a terminal after `text` was written to it, scrolled-off ones first.

    Knows what a line-based program uses: CR, LF, backspace, tab, cursor moves, erasing, wrapping at
    the right edge, and characters two columns wide. The cursor cannot go above the window: what
    has scrolled off cannot be changed.
    """
    return _drawn(text, columns, rows).lines()


def _drawn(text: str, columns: int, rows: int) -> "_Paper":
    paper = _Paper(columns, rows)
    position = 0
    while position < len(text):
        escape = _ESCAPE.match(text, position)
        if escape is None:
            paper.put(text[position])
            position += 1
            continue
        position = escape.end()
        if escape["command"] and "?" not in escape["numbers"]:
            paper.command(escape["command"], escape["numbers"])
    return paper


@dataclass(slots=True)
class _Paper:
    columns: int
    rows: int
    cells: list[list[str]] = field(
        default_factory=lambda: [[]]
    )  # "" is the right half of a wide one
    row: int = 0
    column: int = 0
    top: int = 0  # of the window

    def put(self, character: str) -> None:
        match character:
            case "\r":
                self.column = 0
            case "\n":
                self._line_feed()
            case "\b":
                self.column = max(0, self.column - 1)
            case "\t":
                self.column = min(self.columns - 1, self.column // 8 * 8 + 8)
            case _ if character.isprintable():
                self._print(character)

    def command(self, command: str, numbers: str) -> None:
        number = int(numbers.split(";")[0] or 0)
        line = self.cells[self.row]
        match command:
            case "A":
                self.row = max(self.row - (number or 1), self.top)
            case "B":
                self.row = min(self.row + (number or 1), len(self.cells) - 1)
            case "C":
                self.column = min(self.column + (number or 1), self.columns - 1)
            case "D":
                self.column = max(self.column - (number or 1), 0)
            case "G":
                self.column = min((number or 1) - 1, self.columns - 1)
            case "K" if number == 0:
                del line[self.column :]
            case "K":
                self.cells[self.row] = (
                    [] if number == 2 else [" "] * self.column + line[self.column :]
                )
            case "J" if number == 0 and (self.row, self.column) == (self.top, 0):
                # The whole window: tmux and others keep what was there in their history.
                self.row = self.top = len(self.cells)
                self.cells.append([])
            case "J" if number == 0:
                del line[self.column :]
                del self.cells[self.row + 1 :]
            case "m" | "n":
                pass
            case _:
                raise AssertionError(f"the screen does not know ESC[{numbers}{command}")

    def lines(self) -> list[str]:
        shown = ["".join(line).rstrip() for line in self.cells]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def _line_feed(self) -> None:
        self.row += 1
        self.top = max(self.top, self.row - self.rows + 1)
        if self.row == len(self.cells):
            self.cells.append([])

    def _print(self, character: str) -> None:
        if unicodedata.combining(character):
            return
        width = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if self.column + width > self.columns:
            self.column = 0
            self._line_feed()
        line = self.cells[self.row]
        line.extend(" " * (self.column + width - len(line)))
        line[self.column : self.column + width] = [character, ""][:width]
        self.column += width
