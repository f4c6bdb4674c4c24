"""Chats on disk: one file each, of JSON lines that are only ever added to.

Each line is something that happened: a question, its answer, a turn taken back. What stood on the
screen when the program was killed is in the file, so a chat can go on from there.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from vlmcli import transcript
from vlmcli.errors import OutputError, UsageError, shown

Event = Mapping[str, Any]

VERSION = 1
_SUFFIX = ".jsonl"


def folder() -> Path:
    """Where chats and typed lines are kept: `VLM_DATA`, or the user's own folder for data."""
    if override := os.environ.get("VLM_DATA"):
        return Path(override)
    import platformdirs

    return platformdirs.user_data_path("vlm")


def private_folder(path: Path) -> Path:
    """The folder, made so that nobody else may look into it. Raises OutputError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path} cannot be made", hint=_reason(error)) from error
    return path


@dataclass(slots=True)
class Transcript:
    """The file of one chat, held by this program alone; made with the first event after `begun`."""

    path: Path | None = None
    _waiting: list[Event] = field(default_factory=list)
    _held: BinaryIO | None = None

    @property
    def name(self) -> str:
        """What --cid takes; "" as long as nothing is written."""
        return self.path.stem if self.path else ""

    def begin(self, **head: object) -> None:
        """Say what stands first, once there is something to come after it."""
        self._waiting.append({"event": "begun", "version": VERSION, "time": _now(), **head})

    def add(self, event: str, **fields: object) -> None:
        """Put an event on the disk for good. Raises OutputError."""
        self._waiting.append({"event": event, "time": _now(), **fields})
        if self.path is None:
            self.path, self._held = _new_file(private_folder(folder() / "chats"))
        text = "".join(_line(waiting) for waiting in self._waiting)
        transcript.append(self.path, text)
        self._waiting.clear()

    def close(self) -> None:
        if self._held is not None:
            self._held.close()
            self._held = None


def _line(event: Event) -> str:
    return json.dumps(event, ensure_ascii=False) + "\n"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def _new_file(where: Path) -> tuple[Path, BinaryIO]:
    stem = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 10_000):
        path = where / f"{stem}{f'-{number}' if number > 1 else ''}{_SUFFIX}"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            continue
        except OSError as error:
            raise OutputError(f"{path} cannot be written", hint=_reason(error)) from error
        return path, _hold(path)
    raise OutputError(f"{where} has no name left for this second")


def _hold(path: Path) -> BinaryIO:
    """The file, locked as long as it is open. Raises UsageError if another program has it."""
    file = path.open("rb")
    try:
        import fcntl
    except ImportError:  # Windows
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise UsageError(
            f"chat {path.stem} is open in another terminal", hint="leave it there first"
        ) from error
    except OSError:  # a file system without locks
        pass
    return file


def paths() -> list[Path]:
    """Every chat that is kept; that which was used last comes first."""
    found: list[tuple[float, Path]] = []
    for path in (folder() / "chats").glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # gone meanwhile
            found.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(found, reverse=True)]


def find(name: str = "") -> Path:
    """The chat of this name, or whose name alone begins so; the last one if there is no name.

    Raises UsageError.
    """
    kept = paths()
    if not kept:
        raise UsageError("no chat is kept yet", hint="vlm chat begins one")
    if not name:
        return kept[0]
    found = [path for path in kept if path.stem == name] or [
        path for path in kept if path.stem.startswith(name)
    ]
    if len(found) != 1:
        what = f"{len(found)} chats begin with" if found else "no chat is called"
        raise UsageError(f"{what} {shown(name)}", hint="vlm chat --list shows them")
    return found[0]


def reopened(path: Path) -> tuple[Transcript, list[Event]]:
    """A chat to go on with, and all that happened in it.

    A line that was being written when the program was killed is cut off. Raises UsageError.
    """
    held = _hold(path)
    try:
        complete = path.read_bytes().rfind(b"\n") + 1
        if complete != path.stat().st_size:
            os.truncate(path, complete)
        return Transcript(path, _held=held), list(events(path))
    except OSError as error:
        held.close()
        raise UsageError(f"{path}: {_reason(error)}") from error
    except UsageError:
        held.close()
        raise


def events(path: Path) -> Iterator[Event]:
    """What happened in a chat, in order; lines that are none are passed over."""
    with path.open("rb") as file:
        for line in file:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and isinstance(event.get("event"), str):
                if event["event"] == "begun" and event.get("version") != VERSION:
                    raise UsageError(
                        f"{path} is of another version of vlm", hint="name another with --cid"
                    )
                yield event


def words_of(content: object) -> str:
    """The words of a question as it is kept."""
    parts = content if isinstance(content, list) else []
    texts = (str(p["text"]) for p in parts if isinstance(p, dict) and p.get("type") == "text")
    return re.sub(r"\s+", " ", " ".join(texts)).strip()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
