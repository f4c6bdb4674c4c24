"""What can be made again, kept in files: where they are, and which of them go when there are too
many."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from vlmcli import writing
from vlmcli.errors import OutputError

_LARGEST_SHARE = 8
"""No file is larger than this part of all that there may be, or one would push out many."""
_STEPS = 16
"""All files are looked at after so many parts of all that there may be: others write, too."""
_ABANDONED_S = 3600


def folder() -> Path:
    """Where vlm keeps what it can make again; there need not be such a folder."""
    if override := os.environ.get("VLM_CACHE_DIR"):
        return Path(override)
    import platformdirs

    return platformdirs.user_cache_path("vlm")


def features_folder() -> Path:
    """Where that lies which models saw in pictures."""
    return folder() / "features"


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    bytes: int
    used_at: float


@dataclass(slots=True)
class Shelf:
    """Files by key in one folder, of `most_bytes` together; those used longest ago go first.

    Any number of processes share it, each of which may be killed at any moment. One process puts no
    more there than there may be: it would push out its own.
    """

    folder: Path
    suffix: str
    most_bytes: int
    _written: int = field(default=0, init=False)
    _room: int = field(default=0, init=False)  # before all files are looked at again
    _lock: Lock = field(default_factory=Lock, init=False)

    def read(self, key: str) -> bytes | None:
        """What was written under a key, if it is still there; it counts as used now."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with suppress(OSError):  # a disk that is read only
            os.utime(path)
        return data

    def write(self, key: str, data: bytes) -> None:
        """Keep `data`, if it is not too much, in place of all that is there under its key.

        Raises OutputError.
        """
        with self._lock:
            whole = self._written + len(data)
            if len(data) > self.most_bytes // _LARGEST_SHARE or whole > self.most_bytes:
                if not self._written:  # it may hold more than there may be by now
                    self._make_room(0)
                return
            self._make_folder()
            if len(data) > self._room:
                self._make_room(len(data))
            path = self._path(key)
            with suppress(OSError):  # one that is damaged, perhaps with rights of its own
                path.unlink()
            with writing.replaced(path, mode=0o600) as file:
                file.write(data)
            self._written, self._room = whole, self._room - len(data)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{self.suffix}"

    def _make_folder(self) -> None:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"{self.folder} cannot be made", hint=reason) from error

    def _make_room(self, needed: int) -> None:
        _remove_abandoned(self.folder)
        entries = sorted(_entries(self.folder, self.suffix), key=lambda entry: entry.used_at)
        total = sum(entry.bytes for entry in entries)
        step = self.most_bytes // _STEPS
        if total + needed > self.most_bytes:
            for entry in entries:
                if total + max(needed, step) <= self.most_bytes:
                    break
                with suppress(OSError):  # in use, on Windows
                    entry.path.unlink(missing_ok=True)
                    total -= entry.bytes
        self._room = max(needed, min(self.most_bytes - total, step))


def held(folder: Path, suffix: str) -> tuple[int, int]:
    """How many files a shelf holds, and how many bytes they are."""
    sizes = [entry.bytes for entry in _entries(folder, suffix)]
    return len(sizes), sum(sizes)


def _entries(folder: Path, suffix: str) -> Iterator[_Entry]:
    with suppress(OSError), os.scandir(folder) as files:
        for file in files:
            if file.name.endswith(suffix):
                with suppress(OSError):  # removed meanwhile
                    found = file.stat(follow_symlinks=False)
                    yield _Entry(Path(file.path), found.st_size, found.st_mtime)


def _remove_abandoned(folder: Path) -> None:
    """What a process that was killed had not written to the end."""
    before = time.time() - _ABANDONED_S
    for entry in _entries(folder, ""):
        if entry.path.name.startswith(writing.UNFINISHED) and entry.used_at < before:
            with suppress(OSError):
                entry.path.unlink()
