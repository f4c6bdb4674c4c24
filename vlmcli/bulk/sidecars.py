"""A small file beside each picture, with what a model said of it."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from vlmcli import writing
from vlmcli.bulk import xmp
from vlmcli.bulk.index import Index
from vlmcli.bulk.kinds import SidecarKind
from vlmcli.bulk.records import Record
from vlmcli.errors import InputError, shown
from vlmcli.formats import SUFFIXES
from vlmcli.output.text import as_json, clean
from vlmcli.sources import Source


@dataclass(slots=True)
class Sidecars:
    """Those of one run; one that is there already stays, unless `force`."""

    kind: SidecarKind
    force: bool
    _index: Index = field(default_factory=Index)

    def place(self, source: Source, page: int | None) -> Path:
        """Where the sidecar of a picture, or of a page of a PDF, is or will be.

        Raises InputError if there cannot be one: the picture is no file, a picture of this run with
        another suffix has that place, or nothing may be written there.
        """
        if source.kind != "path":
            hint = "-o FILE takes its answer"
            raise InputError(f"{shown(source.name)}: a sidecar lies beside a file", hint=hint)
        path = sidecar_of(Path(source.location), self.kind, page)
        picture = crc32(os.fsencode(os.path.abspath(source.location)))  # noqa: PTH100
        place = os.path.abspath(path)  # noqa: PTH100
        if (owner := self._index.get("sidecar", place)) not in (None, picture):
            what = f"{shown(source.name)}: {path.name} is the sidecar of another picture"
            raise InputError(what, hint="rename one of the two")
        if owner is None:
            self._index.put(picture, "sidecar", place)
        if not os.access(path.parent, os.W_OK):
            where = shown(str(path.parent))
            raise InputError(f"{shown(source.name)}: nothing may be written to {where}")
        return path

    def is_wanted(self, path: Path) -> bool:
        return self.force or not os.path.lexists(path)

    def write(self, path: Path, record: Record) -> bool:
        """Write it whole; whether that was done: not if one has come there since.

        Raises OutputError, and InputError if an XMP that is there cannot be added to.
        """
        try:
            content = self._content(path, record)
            if self.force:
                with writing.replaced(Path(os.path.realpath(path))) as file:
                    file.write(content)
            else:
                with writing.created(path) as file:
                    file.write(content)
        except FileExistsError:
            return False
        return True

    def close(self) -> None:
        self._index.close()

    def _content(self, path: Path, record: Record) -> bytes:
        text = clean(str(record["text"]))
        if self.kind == "json":
            return f"{as_json(record, ascii_only=False, indent=2)}\n".encode()
        if self.kind == "txt":
            return f"{text.strip()}\n".encode()
        try:
            before = path.read_bytes()
        except FileNotFoundError:
            return xmp.packet(text)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"{shown(str(path))}: {reason}") from error
        try:
            return xmp.described(before, text)
        except ValueError as error:
            message = f"{shown(str(path))} cannot be added to: {error}"
            raise InputError(message, hint="mend or remove it") from error


def sidecar_of(picture: Path, kind: SidecarKind, page: int | None) -> Path:
    """photo.jpg -> photo.txt; page 3 of doc.pdf -> doc.page3.txt.

    A suffix that is none of a picture's is a part of the name: IMG.0001 -> IMG.0001.txt.
    """
    stem = picture.stem if picture.suffix.lower() in SUFFIXES else picture.name
    return picture.with_name(f"{stem}{f'.page{page}' if page else ''}.{kind}")
