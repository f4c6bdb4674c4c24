"""Rows on stdout: aligned columns on a terminal; in a pipe, a line each with tabs between."""

import shutil
import sys
import textwrap
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vlmcli.output.terminal import styled, write
from vlmcli.output.text import fold

_GAP = "  "
_LEAST_WIDTH = 20

# Up to how many seconds a time is told in which unit.
_UNITS = (
    (3600, 60, "min"),
    (86_400, 3600, "hour"),
    (7 * 86_400, 86_400, "day"),
    (30 * 86_400, 7 * 86_400, "week"),
    (365 * 86_400, 30 * 86_400, "month"),
    (float("inf"), 365 * 86_400, "year"),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, and how it looks on a terminal.

    Where that is too narrow, columns of the highest `spare` go first, and those of 0 never: their
    cells are told below the row in the words of `below`, or not at all if it is empty. `styles`
    maps the texts of cells to how they are shown.
    """

    title: str
    right: bool = False
    spare: int = 0
    below: str = ""
    style: str = ""
    styles: Mapping[str, str] | None = None

    def style_of(self, cell: str) -> str:
        return (self.styles or {}).get(cell, self.style)


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], marked: Collection[int] | None = None
) -> None:
    """Print the rows; those whose numbers are in `marked` get a `*`.

    It stands before them, or in a pipe after them, so that the name stays the first column.
    """
    cells = [[fold(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_aligned(columns, cells, marked)
        return
    for number, row in enumerate(cells):
        mark = [] if marked is None else ["*" if number in marked else ""]
        write(sys.stdout, "\t".join([*row, *mark]) + "\n")


def facts(pairs: Iterable[tuple[str, str]], width: int) -> None:
    """Print a line for each pair of a label, of up to `width` characters, and what it says."""
    for label, text in pairs:
        if not sys.stdout.isatty():
            write(sys.stdout, f"{label}\t{fold(text)}\n")
            continue
        indent = " " * width + _GAP
        room = max(_LEAST_WIDTH, shutil.get_terminal_size().columns - len(indent))
        # A path stays in one piece, so that it can be copied.
        lines = textwrap.wrap(fold(text), room, break_long_words=False, break_on_hyphens=False)
        parts = (f"{label:{width}}{_GAP}", "dim"), (f"\n{indent}".join(lines) + "\n", "")
        write(sys.stdout, styled(sys.stdout, *parts))


def row(name: str, *rest: str) -> None:
    """Print a name and what is to be said of it on one line, tabs between."""
    after = "".join(f"\t{fold(text)}" for text in rest)
    write(sys.stdout, styled(sys.stdout, (fold(name), "cyan"), (f"{after}\n", "")))


def ago(moment_s: float) -> str:
    """How long ago a time (in seconds since 1970) was: 3 days ago."""
    seconds = time.time() - moment_s
    if seconds < 60:
        return "just now"
    unit_s, unit = next((size, name) for most, size, name in _UNITS if seconds < most)
    count = int(seconds // unit_s)
    plural = "s" if count > 1 and unit != "min" else ""
    return f"{count} {unit}{plural} ago"


def _print_aligned(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], marked: Collection[int] | None
) -> None:
    indent = "" if marked is None else _GAP
    room = shutil.get_terminal_size().columns - len(indent)
    widths = [
        max(len(column.title), *(len(row[n]) for row in rows)) for n, column in enumerate(columns)
    ]
    shown = _shown(columns, widths, room)
    titles = _line(columns, widths, shown, [column.title for column in columns], "bold")
    write(sys.stdout, styled(sys.stdout, (indent, ""), *titles) + "\n")
    for number, cells in enumerate(rows):
        mark = "* " if marked and number in marked else indent
        line = _line(columns, widths, shown, cells)
        write(sys.stdout, styled(sys.stdout, (mark, "green"), *line) + "\n")
        for text in _below(columns, cells, shown, room):
            write(sys.stdout, styled(sys.stdout, (f"{indent}{text}", "dim")) + "\n")


def _shown(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int]:
    """The numbers of the columns for which there is room."""
    shown = list(range(len(columns)))
    for spare in sorted({column.spare for column in columns} - {0}, reverse=True):
        if sum(widths[n] for n in shown) + len(_GAP) * (len(shown) - 1) <= room:
            break
        shown = [n for n in shown if columns[n].spare != spare]
    return shown


def _below(
    columns: Sequence[Column], cells: Sequence[str], shown: Sequence[int], room: int
) -> list[str]:
    """The lines under a row, with what has no room in it."""
    hidden = [n for n in range(len(columns)) if n not in shown and cells[n] and columns[n].below]
    said = "; ".join(columns[n].below.format(cells[n]) for n in hidden)
    width = max(_LEAST_WIDTH, room)
    return textwrap.wrap(said, width, initial_indent="    ", subsequent_indent="    ")


def _line(
    columns: Sequence[Column],
    widths: Sequence[int],
    shown: Sequence[int],
    cells: Sequence[str],
    style: str = "",
) -> list[tuple[str, str]]:
    """The parts of a line, each with its style; nothing hangs over at the end."""
    parts = []
    for n in shown:
        last = n == shown[-1]
        text = f"{cells[n]:>{widths[n]}}" if columns[n].right else cells[n]
        text = text if last else f"{text:{widths[n]}}{_GAP}"
        parts.append((text, style or columns[n].style_of(cells[n])))
    return parts
