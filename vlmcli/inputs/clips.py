"""Arguments -> open clips and pictures, through sources, video and images."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from vlmcli import images, output, sources, video
from vlmcli.errors import InputError, UsageError, shown
from vlmcli.formats import HEAD_BYTES, is_picture, seems
from vlmcli.messages import Image, Video
from vlmcli.settings import Settings
from vlmcli.sources import Source
from vlmcli.video import Clip

_CHUNK_BYTES = 1 << 20


@contextmanager
def opened(arguments: Sequence[str], settings: Settings) -> Iterator[list[Clip | Image]]:
    """Everything that the arguments name, in order; clips stay open. Raises InputError."""
    with ExitStack() as stack:
        seen: list[Clip | Image] = []
        for argument in arguments:
            if os.path.isdir(argument):  # noqa: PTH112 - false for a name that is too long
                raise InputError(f"{shown(argument)}: a folder", hint=f"name clips: {argument}/*")
            for source in sources.find(argument):
                if isinstance(source, InputError):
                    raise source
                seen += _opened(source, settings, stack)
        if not any(not isinstance(one, Image) for one in seen):
            raise UsageError("there is no clip among the files", hint="vlm ask is for pictures")
        yield seen


def at(argument: str, times_s: Sequence[float], settings: Settings) -> Video:
    """The frames of a clip at these very times. Raises InputError."""
    with opened([argument], settings) as seen:
        film = next(one for one in seen if not isinstance(one, Image))
        found = tuple(frame.pixels for frame in film.frames(times_s))
        if len(found) < len(times_s):
            raise InputError(f"{shown(argument)}: it is shorter than it was")
        return Video(argument, found, tuple(times_s), film.duration_s, film.sha256)


def _opened(source: Source, settings: Settings, stack: ExitStack) -> list[Clip | Image]:
    file = _file(source, settings, stack)
    head = _head(source, file)
    if is_picture(head) and not video.moves(file):
        data = file.read_bytes() if isinstance(file, Path) else file.read()
        found = images.decode(source.name, data, max_pixels=settings.max_pixels, page=source.page)
        return [*found]
    what = seems(head)
    if what and not what.startswith("a video"):
        raise InputError(f"{shown(source.name)}: not a video", hint=f"it seems to be {what}")
    clip = stack.enter_context(
        video.opened(source.name, file, animated=is_picture(head), max_pixels=settings.max_pixels)
    )
    if settings.json:  # of films of gigabytes, so only where it will be written down
        with output.status(f"reading {shown(source.name)}"):
            clip.sha256 = _sha256(file)
    return [clip]


def _file(source: Source, settings: Settings, stack: ExitStack) -> Path | BinaryIO:
    """Something that can be sought in: the file itself, or a copy of what comes but once."""
    if source.kind == "path" and Path(source.location).is_file():
        return Path(source.location)
    copy: BinaryIO = stack.enter_context(tempfile.TemporaryFile(prefix="vlm-"))  # noqa: SIM115
    sources.copy(
        source, copy, max_bytes=settings.max_download_bytes, timeout_s=settings.url_timeout
    )
    copy.seek(0)
    return copy


def _head(source: Source, file: Path | BinaryIO) -> bytes:
    """The first bytes, unread again. Raises InputError if there are none."""
    try:
        if isinstance(file, Path):
            with file.open("rb") as opened_file:
                head = opened_file.read(HEAD_BYTES)
        else:
            head = file.read(HEAD_BYTES)
            file.seek(0, os.SEEK_SET)
    except OSError as error:
        raise InputError(f"{shown(source.name)}: {(error.strerror or '').lower()}") from error
    if not head:
        hint = "pipe a clip in, and name - only once" if source.kind == "stdin" else ""
        raise InputError(f"{shown(source.name)} is empty", hint=hint)
    return head


def _sha256(file: Path | BinaryIO) -> str:
    digest = hashlib.sha256()
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened_file:
        before = opened_file.tell()  # where a decoder goes on
        opened_file.seek(0)
        while chunk := opened_file.read(_CHUNK_BYTES):
            digest.update(chunk)
        opened_file.seek(before)
    return digest.hexdigest()
