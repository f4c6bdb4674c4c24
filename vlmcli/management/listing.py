"""The list that `vlm models ls` prints."""

import sys
from collections.abc import Sequence

from vlmcli import memory, output
from vlmcli.management import entries
from vlmcli.management.entries import NOT_CACHED, Entry
from vlmcli.models import catalog
from vlmcli.output import Column
from vlmcli.settings import Settings

_HERE = {"fits": "green", "tight": "yellow", "too big": "red", "partial": "yellow"}
_HERE |= {"damaged": "bold red", "no weights": "dim", "no VLM": "dim"}

CACHED = (
    Column("NAME", style="cyan"),
    Column("ALIAS", spare=5),
    Column("TYPE", spare=6),
    Column("SIZE", right=True, spare=1, below="{}"),
    Column("LAST USED", spare=3, below="{}", styles={NOT_CACHED: "dim"}),
    Column("REVISION", spare=4, below="revision {}"),
    Column("HERE", spare=2, below="{}", styles=_HERE),
)
RECOMMENDED = (
    *CACHED,
    Column("MEMORY", spare=9, below="takes {} of memory"),
    Column("LICENCE", spare=9, below="{}"),
    Column("GOOD AT", spare=9, below="good at {}"),
)


def show(settings: Settings, *, recommended: bool) -> None:
    """Print the models that are here, and if asked the recommended ones that are not."""
    room = memory.here()
    shown = list(entries.in_cache())
    default = entries.default_of(settings.model, shown)
    if recommended:
        here = {entry.name for entry in shown}
        shown += [entries.of_row(row, room) for row in catalog.MODELS if row.name not in here]
    if settings.json:
        for entry in shown:
            output.record(entries.as_json(entry, default=entry is default))
        return
    if not shown:
        output.note("no models here: vlm models pull smolvlm fetches one; ls -a lists others")
        return
    marked = [number for number, entry in enumerate(shown) if entry is default]
    _print(shown, marked, recommended=recommended)
    if sys.stdout.isatty():
        starred = "* answers where no -m is given; " if marked else ""
        output.note(f"{starred}{output.size(room.free_bytes)} of {room.place} are free")


def _print(shown: Sequence[Entry], marked: Sequence[int], *, recommended: bool) -> None:
    columns = RECOMMENDED if recommended else CACHED
    output.table(columns, [_cells(entry)[: len(columns)] for entry in shown], marked)


def _cells(entry: Entry) -> list[str]:
    used = NOT_CACHED if entry.state == NOT_CACHED else ""
    about = "~" if entry.state == NOT_CACHED else ""
    gated = " (asks for a click first)" if entry.row and entry.row.gated else ""
    return [
        entry.name,
        next(iter(entry.aliases), ""),
        entry.kind.name,
        about + output.size(entry.size + entry.unfinished_size),
        output.ago(entry.last_used) if entry.last_used else used,
        entry.revision.commit[:7] if entry.revision else "",
        entry.here,
        output.size(entry.memory_bytes) if entry.memory_bytes else "",
        entries.licence(entry) + gated,
        entry.row.good_at if entry.row else "",
    ]
