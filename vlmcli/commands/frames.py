"""The frames that the model saw, for the user: as files, and side by side on one sheet."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL.Image import Image as Pixels

from vlmcli import output
from vlmcli.errors import InputError, OutputError, UsageError, shown
from vlmcli.inputs.arguments import SHEET_SUFFIXES
from vlmcli.messages import Video
from vlmcli.timecodes import clock
from vlmcli.video.sheet import contact_sheet

_QUALITY = 95
_GLIMPSE = (480, 480)


def check(folder: str | None, sheet: str | None) -> None:
    """Fail before any work if frames cannot go where they are to go."""
    if sheet and not sheet.lower().endswith(SHEET_SUFFIXES):
        raise UsageError(
            f"--sheet={sheet}: not the name of a picture", hint=f"end it in {SHEET_SUFFIXES[0]}"
        )
    if sheet and not Path(sheet).parent.is_dir():
        raise UsageError(f"--sheet={sheet}: there is no folder {Path(sheet).parent}")
    if folder is not None:
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"--frames {shown(folder)}: {reason}") from error


def write_each(videos: Sequence[Video], folder: Path) -> None:
    """Write the frames as CLIP-0012.500s.jpg: in a listing they stand in the order of time."""
    for number, video in enumerate(videos, 1):
        stem = _stem(video)
        if any(_stem(other) == stem for other in videos if other is not video):
            stem = f"{number}-{stem}"
        for time_s, frame in zip(video.times_s, video.frames, strict=True):
            _save(frame, folder / f"{stem}-{time_s:08.3f}s.jpg")


def _stem(video: Video) -> str:
    name = Path(video.name.rstrip("/")).stem
    return "".join(c if c.isalnum() or c in "-_. " else "_" for c in name).strip("-. ") or "clip"


def glimpse(video: Video) -> Video:
    """The middle frame of a clip, small: of a long one, a sheet has room for one a window."""
    middle = len(video.frames) // 2
    small = video.frames[middle].copy()
    small.thumbnail(_GLIMPSE)
    return replace(video, frames=(small,), times_s=(video.times_s[middle],))


def show_sheet(videos: Sequence[Video], sheet: str) -> None:
    """Show the frames side by side: in the terminal if it can and no file is named, else there."""
    several = len({video.name for video in videos}) > 1
    labelled = [
        (f"{_stem(video)} {clock(time_s)}" if several else clock(time_s), frame)
        for video in videos
        for time_s, frame in zip(video.times_s, video.frames, strict=True)
    ]
    picture = contact_sheet(labelled)
    if not sheet and output.show_picture(picture, sys.stderr):
        return
    path = Path(sheet or f"{_stem(videos[0])}-sheet.png")
    _save(picture, path)
    output.note(f"the frames are in {shown(str(path))}")


def _save(picture: Pixels, path: Path) -> None:
    try:
        picture.save(path, quality=_QUALITY)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"{shown(str(path))} cannot be written", hint=reason) from error
