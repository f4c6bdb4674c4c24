"""What was looked at and found, a line each: what `vlm doctor` prints."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING

from vlmcli.errors import VlmError
from vlmcli.output.terminal import console, write
from vlmcli.output.text import fold

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


class State(StrEnum):
    """How good a finding is; a note is about something that is not needed."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a report: what was looked at, what was found, and what to do about it.

    `facts` are the value once more, for programs. A problem has the error that it leads to.
    """

    group: str
    name: str
    value: str
    state: State = State.OK
    hint: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    error: VlmError | None = None


_MARKS = {
    State.OK: ("✓", "green"),
    State.NOTE: ("-", "dim"),
    State.WARNING: ("!", "yellow"),
    State.PROBLEM: ("✗", "bold red"),
}
_NARROW = 60  # columns; in fewer, a value follows its name at once


def report(findings: Sequence[Finding]) -> None:
    """Print the findings on stdout in groups; off a terminal, one line each for `grep`."""
    screen = console(sys.stdout)
    write(sys.stdout, _plain(findings) if screen is None else _drawn(findings, screen))


def _plain(findings: Sequence[Finding]) -> str:
    wide = max(len(finding.name) for finding in findings)
    lines: list[str] = []
    for group, members in groupby(findings, lambda finding: finding.group):
        lines += [group] if not lines else ["", group]
        for finding in members:
            told = "; ".join(fold(part) for part in (finding.value, finding.hint) if part)
            lines.append(f"  {finding.state:<7}  {finding.name:<{wide}}  {told}")
    return "".join(f"{line}\n" for line in lines)


def _drawn(findings: Sequence[Finding], screen: "Console") -> str:
    from rich.table import Table
    from rich.text import Text

    narrow = screen.width < _NARROW
    wide = max(len(finding.name) for finding in findings)
    with screen.capture() as captured:
        for number, (group, members) in enumerate(groupby(findings, lambda f: f.group)):
            screen.print(*([] if number == 0 else [Text()]), Text(group, "bold"), sep="\n")
            table = Table.grid(padding=(0, 1, 0, 0))
            table.add_column(width=3, justify="right")
            table.add_column(overflow="fold", min_width=None if narrow else wide)
            if not narrow:
                table.add_column(overflow="fold")
            for finding in members:
                mark, style = _MARKS[finding.state]
                name, told = Text(finding.name, "cyan"), _told(finding)
                row = [Text.assemble(name, " ", told)] if narrow else [name, told]
                table.add_row(Text(mark, style), *row)
            screen.print(table)
    return captured.get()


def _told(finding: Finding) -> "Text":
    from rich.text import Text

    style = "" if finding.state in (State.OK, State.NOTE) else _MARKS[finding.state][1]
    hint = f"\n→ {fold(finding.hint)}" if finding.hint else ""
    return Text.assemble((fold(finding.value), style), (hint, "dim"))
