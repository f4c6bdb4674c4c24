"""The pictures and clips of a record, found again: by name, or else by content."""

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlmcli import output, sources
from vlmcli.errors import InputError, UsageError, shown
from vlmcli.inputs import clips, pictures
from vlmcli.messages import Image, Video
from vlmcli.records import Seen
from vlmcli.settings import Settings


@dataclass(slots=True)
class Places:
    """Where files are looked for: under their names from `root`, and among `others`, by content."""

    root: str = ""
    others: tuple[str, ...] = ()
    _by_digest: dict[str, str] | None = field(default=None, init=False)

    def check(self) -> None:
        """Raise InputError if one of the others is not there."""
        for other in self.others:
            if not os.path.exists(other):  # noqa: PTH110 - false for a name that is too long
                raise next(_complaints(other))

    def look(self, seen: Seen, settings: Settings) -> Image | Video:
        """What the record was about, as it was. Raises InputError if that is not to be found."""
        try:
            found = self._as_named(seen, settings)
        except InputError:
            if (place := self._elsewhere(seen)) is None:
                raise
            found = _read_at(place, seen, settings)
        if (found.width, found.height) != seen.size:
            raise InputError(
                f"{shown(seen.name)}: {found.width} x {found.height}, and it was"
                f" {seen.size[0]} x {seen.size[1]}",
                hint="was --max-pixels another?",
            )
        return replace(found, name=seen.name)

    def _as_named(self, seen: Seen, settings: Settings) -> Image | Video:
        if seen.name in ("-", "clip:") or seen.name.startswith("data:"):
            raise InputError(
                f"{shown(seen.name)}: what came from there is not in the record",
                hint="name a file that holds the same: vlm replay RECORDS FILE",
            )
        name = seen.name
        if not re.match(r"~|[a-z]+://", name):
            name = os.path.join(self.root, name)  # noqa: PTH118 - keeps what Path would tidy up
        found = _read_at(name, seen, settings)
        if seen.sha256 and found.sha256 != seen.sha256:
            raise InputError(
                f"{shown(seen.name)}: it has changed since the record was made",
                hint="vlm replay RECORDS FILES looks for what it was among FILES",
            )
        return found

    def _elsewhere(self, seen: Seen) -> str | None:
        if self._by_digest is None:
            with output.status("reading FILES"):
                self._by_digest = {_digest(file): str(file) for file in self._files()}
        place = self._by_digest.get(seen.sha256)
        page = re.search("#page=[0-9]+$", seen.name)
        return f"{place}{page[0]}" if place and page else place

    def _files(self) -> Iterator[Path]:
        for other in map(Path, self.others):
            yield from (f for f in other.rglob("*") if f.is_file()) if other.is_dir() else (other,)


def _complaints(name: str) -> Iterator[InputError]:
    try:
        for _ in sources.find(name):
            break
    except InputError as error:
        yield error
    yield InputError(f"{shown(name)}: no such file")


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{shown(str(file))}: {(error.strerror or '').lower()}") from error


def _read_at(place: str, seen: Seen, settings: Settings) -> Image | Video:
    if seen.frames is not None:
        try:
            return clips.at(place, seen.frames, settings)
        except UsageError as error:  # it is a picture now
            raise InputError(f"{shown(seen.name)}: {error.message}") from error
    found = pictures.read_all([place], settings, recursive=False)
    if len(found) != 1:
        raise InputError(f"{shown(seen.name)}: it is {len(found)} pictures now")
    return found[0]
