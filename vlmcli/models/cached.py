"""What lies in the Hub cache of this machine: read from the disk, and nobody is asked.

huggingface_hub has a scan of its own, which takes a while to import, and which leaves out whatever
is broken: here that is what users look for. On what is whole the two agree.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vlmcli.errors import ModelError
from vlmcli.models import names
from vlmcli.models.files import CONFIG, Need, holds_weights, read_quietly, wanted_files

BUILTIN_FOLDER = Path(__file__).parent.parent / "builtin"

State = Literal["whole", "partial", "damaged", "no weights"]

_LEFT_BY_SYSTEMS = {".DS_Store", "Thumbs.db", "desktop.ini"}


@dataclass(frozen=True, slots=True)
class Revision:
    """A commit of a model, as far as it is here; sizes in bytes, times in seconds since 1970.

    `files` maps the paths in the repo to where their bytes are, and `missing` are those of which
    the bytes are gone. `listed` are the paths of the commit on the Hub with their digests, if the
    cache knows them: SHA-256 of a large file, git's SHA-1 of a small one.
    """

    repo: str
    commit: str
    branches: tuple[str, ...]
    folder: Path
    files: Mapping[str, Path]
    missing: tuple[str, ...]
    listed: Mapping[str, str] | None
    size: int
    last_used: float
    state: State

    @property
    def name(self) -> str:
        """What a user types for this revision: the plain name if it is that of `main`."""
        if names.MAIN in self.branches:
            return self.repo
        return f"{self.repo}@{self.branches[0] if self.branches else self.commit[:7]}"


@dataclass(frozen=True, slots=True)
class Repo:
    """A model's place in the cache; `unfinished` are bytes of downloads that were broken off."""

    name: str
    folder: Path
    revisions: tuple[Revision, ...]
    unfinished: tuple[Path, ...]
    unfinished_size: int
    size: int
    last_used: float


def repos(folder: Path | None = None) -> list[Repo]:
    """All models of the cache, in the order of their names; empty places are left out."""
    found = (folder or names.cache_folder()).glob("models--*")
    there = (repo_in(place) for place in found if _is_folder(place))
    return sorted((repo for repo in there if repo), key=lambda repo: repo.name.lower())


def repo_in(place: Path) -> Repo | None:
    """The model whose place in the cache this is; None if nothing of one is there."""
    name = place.name.removeprefix("models--").replace("--", "/")
    branches = _branches(place / "refs")
    sizes: dict[Path, int] = {}
    times: list[float] = []
    revisions = [
        _revision(name, folder, branches.get(folder.name, ()), sizes, times)
        for folder in _folders(place / "snapshots")
    ]
    unfinished = {
        blob: blob.stat().st_size
        for blob in _entries(place / "blobs")
        if blob not in sizes and _exists(blob)
    }
    if not revisions and not unfinished:
        return None
    revisions.sort(key=lambda one: (names.MAIN not in one.branches, one.name))
    times += [blob.stat().st_mtime for blob in unfinished]
    return Repo(
        name=name,
        folder=place,
        revisions=tuple(revisions),
        unfinished=tuple(unfinished),
        unfinished_size=sum(unfinished.values()),
        size=sum(sizes.values()) + sum(unfinished.values()),
        last_used=max(times, default=0.0),
    )


def find(typed: str) -> tuple[Repo, tuple[Revision, ...]]:
    """The model of a name or short name in the cache, and its revision, or all if none was named.

    A commit may be cut short. Raises ModelError if it is not there.
    """
    plain, _, suffix = typed.partition("@")
    here = {repo.name: repo for repo in repos()}
    if plain in here:  # also `gpt2`: names that have no owner, from other programs
        name, revision = plain, suffix
    else:
        name, revision = names.hub_name(typed)
        written_down = suffix or "@" in names.resolve_alias(plain)
        revision = revision if written_down else ""
    if (repo := here.get(name)) is None:
        raise not_cached(typed, name)
    if not revision:
        return repo, repo.revisions
    chosen = tuple(one for one in repo.revisions if _is_called(one, revision))
    if len(chosen) != 1:
        known = ", ".join(one.name for one in repo.revisions) or "only a part of a download"
        which = "not one revision" if chosen else "no revision"
        raise ModelError(f"the cache has {which} {revision} of {name}", hint=f"it has {known}")
    return repo, chosen


def not_cached(typed: str, name: str) -> ModelError:
    """What to say of a model that is not here."""
    hint = names.nearest(typed) or f"vlm models ls lists what is; vlm models pull {name} fetches it"
    return ModelError(f"{typed} is not in the cache", hint=hint)


def _is_called(revision: Revision, name: str) -> bool:
    short = re.fullmatch(r"[0-9a-f]{7,40}", name)
    return name in revision.branches or bool(short and revision.commit.startswith(name))


def _branches(refs: Path) -> Mapping[str, tuple[str, ...]]:
    """Commit -> the branches and tags that point at it."""
    found: dict[str, tuple[str, ...]] = {}
    for file in sorted(refs.rglob("*")):
        with suppress(OSError, ValueError):
            if file.is_file() and file.name not in _LEFT_BY_SYSTEMS:
                commit = file.read_text().strip()
                found[commit] = (*found.get(commit, ()), file.relative_to(refs).as_posix())
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110


def _folders(folder: Path) -> Iterator[Path]:
    return (one for one in _entries(folder) if _is_folder(one))


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _revision(
    repo: str, folder: Path, branches: tuple[str, ...], sizes: dict[Path, int], times: list[float]
) -> Revision:
    """The revision in a snapshot's folder; adds what its bytes weigh to `sizes`, their use too."""
    files: dict[str, Path] = {}
    missing: list[str] = []
    own: dict[Path, int] = {}
    used: list[float] = []
    for file in sorted(folder.rglob("*")):
        if _is_folder(file) or file.name in _LEFT_BY_SYSTEMS:
            continue
        path, blob = file.relative_to(folder).as_posix(), _first_hop(file)
        try:
            known = blob.stat()
        except OSError:
            missing.append(path)
            continue
        files[path], own[blob] = blob, known.st_size
        used.append(known.st_atime)
    sizes.update(own)
    times.extend(used)
    listed = _listed(folder.parent.parent / "trees" / f"{folder.name}.json")
    return Revision(
        repo=repo,
        commit=folder.name,
        branches=branches,
        folder=folder,
        files=files,
        missing=tuple(missing),
        listed=listed,
        size=sum(own.values()),
        last_used=max(used, default=0.0),
        state=_state(folder, files, missing, listed),
    )


def _first_hop(file: Path) -> Path:
    """Where a link leads, but no further: a blob can itself be a link into a store for all."""
    return Path(os.path.normpath(file.parent / file.readlink())) if file.is_symlink() else file


def _listed(file: Path) -> Mapping[str, str] | None:
    """Paths and digests, as huggingface_hub keeps them of a commit."""
    try:
        found = json.loads(read_quietly(file))["files"]
        return {path: info.get("lfs_sha256") or info["blob_id"] for path, info in found.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _state(
    folder: Path, files: Mapping[str, Path], missing: list[str], listed: Mapping[str, str] | None
) -> State:
    if missing:
        return "damaged"
    # Another program may have fetched it file by file: without the list, what is there will do.
    lacking = [file for file in wanted_files(listed or ()) if file not in files]
    if CONFIG in files and holds_weights(folder, Need(pickles=True)):
        return "partial" if lacking else "whole"
    index = any(file.endswith((".safetensors.index.json", ".bin.index.json")) for file in files)
    return "partial" if lacking or index else "no weights"
