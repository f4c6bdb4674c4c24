"""A model as `vlm models` tells of it, from the cache, the package and the recommended table."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from vlmcli import memory
from vlmcli.errors import ModelError
from vlmcli.memory import Memory
from vlmcli.models import cached, catalog, facts, names
from vlmcli.models.cached import Repo, Revision
from vlmcli.models.facts import Kind, Weights
from vlmcli.models.files import CONFIG, wanted_files

NOT_CACHED = "not cached"
NOTHING = Weights(None, (), 0)


@dataclass(frozen=True, slots=True)
class Entry:
    """One model; sizes in bytes, `last_used` in seconds since 1970.

    `folder` is None if it is not here, `revision` if it does not come from the Hub. `state` is that
    of `cached.Revision`, or "not cached".
    """

    name: str
    state: str
    size: int
    folder: Path | None = None
    revision: Revision | None = None
    kind: Kind = field(default_factory=Kind)
    weights: Weights = NOTHING
    memory_bytes: int | None = None
    fits: str | None = None
    last_used: float | None = None
    unfinished_size: int = 0
    row: catalog.Row | None = None

    @property
    def aliases(self) -> list[str]:
        """The short names that stand for it, the user's own first."""
        known = names.aliases()
        own = [short for short in known if known[short] != catalog.ALIASES.get(short)]
        ordered = dict.fromkeys((*own, *known))
        return [short for short in ordered if names.end_of(short, known) == self.name]

    @property
    def here(self) -> str:
        """In a word or two, whether it can answer here."""
        if self.state in ("whole", NOT_CACHED) and self.kind.sees is not False:
            return {"yes": "fits", "tight": "tight", "no": "too big"}.get(self.fits or "", "?")
        return self.state if self.state != "whole" else "no VLM"


def in_cache() -> Iterator[Entry]:
    """Every revision in the cache, and every download that never came to be one."""
    room = memory.here()
    for repo in cached.repos():
        yield from of_repo(repo, room)
    if builtin := of_builtin(room):
        yield builtin


def of_repo(repo: Repo, room: Memory) -> list[Entry]:
    """The revisions of one model; what is left of broken-off downloads counts with the first."""
    if not repo.revisions:
        row, used = _row(repo.name), repo.last_used
        return [Entry(repo.name, "partial", repo.size, repo.folder, last_used=used, row=row)]
    spare = (repo.unfinished_size, *(0 for _ in repo.revisions[1:]))
    pairs = zip(repo.revisions, spare, strict=True)
    return [of_revision(revision, room, left) for revision, left in pairs]


def of_revision(revision: Revision, room: Memory, unfinished_size: int = 0) -> Entry:
    """One revision of a model."""
    kind, weights, needed = _looked_at(revision.folder, room)
    return Entry(
        name=revision.name,
        state=revision.state,
        size=revision.size,
        folder=revision.folder,
        revision=revision,
        kind=kind,
        weights=weights,
        memory_bytes=needed,
        fits=facts.fits(needed, room) if needed else None,
        last_used=revision.last_used,
        unfinished_size=unfinished_size,
        row=_row(revision.name),
    )


def of_folder(name: str, folder: Path, room: Memory) -> Entry:
    """A model that is not in the cache: a folder of the user's, or the built-in one."""
    kind, weights, needed = _looked_at(folder, room)
    files = [file.name for file in folder.iterdir() if file.is_file()]
    return Entry(
        name=name,
        state="whole" if needed else "no weights",
        size=sum((folder / file).stat().st_size for file in wanted_files(files)),
        folder=folder,
        kind=kind,
        weights=weights,
        memory_bytes=needed,
        fits=facts.fits(needed, room) if needed else None,
    )


def of_builtin(room: Memory) -> Entry | None:
    """The model that ships inside, if this build has one."""
    ships = (cached.BUILTIN_FOLDER / CONFIG).is_file()
    return of_folder(names.BUILTIN, cached.BUILTIN_FOLDER, room) if ships else None


def of_row(row: catalog.Row, room: Memory) -> Entry:
    """A recommended model that is not here."""
    needed = catalog.memory_for(row.weight_bytes // 2 * room.weight_bytes)
    return Entry(
        name=row.name,
        state=NOT_CACHED,
        size=row.weight_bytes,
        memory_bytes=needed,
        fits=facts.fits(needed, room),
        kind=Kind(sees=True),
        row=row,
    )


def default_of(model: str, entries: Sequence[Entry]) -> Entry | None:
    """Which of them answers where no model is named and the setting says `model`, if one does."""
    here = {entry.name: entry for entry in entries}
    if model != names.AUTO:
        return here.get(_canonical(model))
    free_bytes = memory.here().free_bytes
    for row in catalog.MODELS:
        entry = here.get(row.name)
        if entry and entry.state == "whole" and row.memory_bytes <= free_bytes:
            return entry
    return here.get(names.BUILTIN)


def _canonical(model: str) -> str:
    """The name by which an entry is called."""
    try:
        repo, revision = names.hub_name(model)
    except ModelError:
        return model
    return repo if revision == names.MAIN else f"{repo}@{revision}"


def as_json(entry: Entry, *, default: bool) -> dict[str, object]:
    """What `--json` says of a model: always the same keys."""
    revision, weights, row = entry.revision, entry.weights, entry.row
    return {
        "name": entry.name,
        "aliases": entry.aliases,
        "state": entry.state,
        "default": default,
        "size_bytes": entry.size,
        "unfinished_bytes": entry.unfinished_size,
        "last_used": _iso(entry.last_used) if entry.last_used else None,
        "revision": revision.commit if revision else None,
        "branches": list(revision.branches) if revision else [],
        "model_type": entry.kind.name or None,
        "answers_about_pictures": entry.kind.sees,
        "parameters": weights.numbers,
        "dtypes": list(weights.formats),
        "memory_bytes": entry.memory_bytes,
        "fits": entry.fits,
        "licence": licence(entry) or None,
        "good_at": row.good_at if row else None,
        "gated": row.gated if row else None,
        "recommended": row is not None,
        "folder": str(entry.folder) if entry.folder else None,
    }


def _iso(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s, UTC).isoformat(timespec="seconds")


def licence(entry: Entry) -> str:
    """From the model's own card, or else from the recommended table; empty if neither knows."""
    own = facts.licence_of(entry.folder) if entry.folder else ""
    return own or (entry.row.licence if entry.row else "")


def _row(name: str) -> catalog.Row | None:
    plain = name.partition("@")[0]
    return next((row for row in catalog.MODELS if row.name == plain), None)


def _looked_at(folder: Path, room: Memory) -> tuple[Kind, Weights, int | None]:
    weights = facts.weights_in(folder)
    needed = facts.memory_bytes(weights, room) if weights.disk_bytes else None
    return facts.kind_of(folder), weights, needed
