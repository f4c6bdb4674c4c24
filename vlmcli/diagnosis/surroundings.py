"""The configuration file and the terminal."""

import os.path
from collections.abc import Iterator

from vlmcli import configfile, output
from vlmcli.errors import UsageError
from vlmcli.output import Finding, State

_GROUP = "terminal"


def configuration(trouble: UsageError | None) -> Finding:
    """The configuration file; `trouble` is what is wrong with it or with a VLM_ variable."""
    file = configfile.path()
    # os.path: what Path does raises for a folder that must not be looked into.
    facts = {"path": str(file), "exists": os.path.isfile(file)}  # noqa: PTH113
    if trouble:
        value, hint = trouble.message, trouble.hint
        return Finding("settings", "config", value, State.PROBLEM, hint, facts, trouble)
    value = str(file) if facts["exists"] else f"{file} (not there, which is fine)"
    return Finding("settings", "config", value, facts=facts)


def terminal() -> Iterator[Finding]:
    """What stdout can show."""
    able = output.abilities()
    size = f"{able.columns} x {able.rows}"
    yield Finding(
        _GROUP,
        "stdout",
        f"a terminal, {size}" if able.is_terminal else "not a terminal",
        facts={"is_terminal": able.is_terminal, "columns": able.columns, "rows": able.rows},
    )
    yield Finding(_GROUP, "TERM", able.term or "not set", facts={"term": able.term})
    yield Finding(
        _GROUP,
        "unicode",
        f"{'yes' if able.unicode else 'no'}, {able.encoding}",
        facts={"unicode": able.unicode, "encoding": able.encoding},
    )
    no = f"none: {able.why_plain}"
    yield Finding(_GROUP, "colours", able.colours or no, facts={"colours": able.colours or None})
    yield Finding(
        _GROUP, "pictures", able.pictures or no, facts={"protocol": able.pictures or None}
    )
