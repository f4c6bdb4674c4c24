"""Answers of several models: columns on a terminal, one below the other on a narrow one, and lines
with tabs in a pipe."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vlmcli.output.terminal import console, styled, write, write_path
from vlmcli.output.text import clean, fold

if TYPE_CHECKING:
    from rich.console import Console

_LEAST_WIDTH, _LABEL_WIDTH = 24, 14
"""Of a column, as narrower ones are not read; and of the first."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of them; `measured` holds what a person is told and what a script is, by names that are
    the same for all; both are empty where nothing is known."""

    title: str
    text: str
    measured: Mapping[str, tuple[str, str]]
    failed: bool = False


def side_by_side(name: str, sides: Sequence[Side]) -> None:
    """Print them; `name` is the file that all are about, "" if that need not be said."""
    if not sys.stdout.isatty():
        for side in sides:
            _print_line(name, side)
        return
    if name:
        write(sys.stdout, styled(sys.stdout, (f"{fold(name)}\n", "bold cyan")))
    screen = console(sys.stdout)
    if screen is not None and screen.width >= len(sides) * _LEAST_WIDTH + _LABEL_WIDTH:
        _print_table(screen, sides)
    else:
        _print_below(sides)


def _print_line(name: str, side: Side) -> None:
    if name:
        write_path(sys.stdout, name)
        write(sys.stdout, "\t")
    text = "" if side.failed else fold(side.text)
    cells = [fold(side.title), text, *(exact for _, exact in side.measured.values())]
    write(sys.stdout, "\t".join(cells) + "\n")


def _print_table(screen: "Console", sides: Sequence[Side]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, expand=True, pad_edge=False)
    table.add_column("", style="dim", no_wrap=True)
    for side in sides:
        table.add_column(Text(fold(side.title)), ratio=1, overflow="fold")
    answers = [Text(clean(side.text), "red" if side.failed else "") for side in sides]
    table.add_row("answer", *answers, end_section=True)
    for label in sides[0].measured:
        told = [side.measured[label][0] for side in sides]
        if any(told):
            table.add_row(label, *map(Text, told))
    with screen.capture() as captured:
        screen.print(table)
    write(sys.stdout, captured.get())


def _print_below(sides: Sequence[Side]) -> None:
    for side in sides:
        style = "red" if side.failed else ""
        told = [f"{label} {text}" for label, (text, _) in side.measured.items() if text]
        parts = [(f"{fold(side.title)}\n", "bold"), (f"{clean(side.text)}\n", style)]
        parts += [(f"{', '.join(told)}\n", "dim")] if told else []
        write(sys.stdout, styled(sys.stdout, *parts, ("\n", "")))
