"""A clip -> the frames that a model is shown, with their times.

`times` decides which moments; `container` and `reader` (PyAV) and `animation` (Pillow) open a file
and decode just those; `pixels` and `light` make of them what a person would see; `sheet` puts
frames side by side.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vlmcli.errors import InputError, UsageError, shown
from vlmcli.messages import Video
from vlmcli.timecodes import clock
from vlmcli.video import animation, container, times
from vlmcli.video.clips import Clip, Frame

__all__ = [
    "Choice",
    "Clip",
    "Frame",
    "Taken",
    "moves",
    "opened",
    "stretch",
    "take",
    "usual",
    "windows",
]

moves = animation.moves
windows = times.windows

LEAST_FRAMES = 4
"""Of a clip too short for its rate, if the user does not say: less does not show what happens."""
_SLACK = 0.05
"""The pictures may end before the clip by this share of it, as the sound goes on."""

Stretch = tuple[float, float]
"""Start and end, in seconds from the start of the clip."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which frames: `fps` a second, from `least` to `most`; spread, or at the changes."""

    most: int
    fps: float = math.inf
    least: int = 1
    at_changes: bool = False

    def count(self, length_s: float) -> int:
        """Of a stretch so long, in seconds."""
        return times.count_frames(length_s, self.fps, self.least, self.most)


def usual(most: int, fps: float) -> Choice:
    """What is shown of a clip where the user does not say: as much as the model is made for."""
    return Choice(most, fps, min(LEAST_FRAMES, most))


@dataclass(frozen=True, slots=True)
class Taken:
    """Frames of a clip; `damaged_s` is where it is damaged or cut short, if that was met."""

    video: Video
    damaged_s: float | None = None


@contextmanager
def opened(name: str, file: Path | BinaryIO, *, animated: bool, max_pixels: int) -> Iterator[Clip]:
    """The clip in `file`. Raises InputError if there is none, or no frame of it can be decoded."""
    opener = animation.opened if animated else container.opened
    with opener(name, file, max_pixels=max_pixels) as clip:
        if clip.duration_s <= 0 or next(iter(clip.frames([0.0])), None) is None:
            raise InputError(
                f"{shown(name)}: not one frame of it can be decoded",
                hint="is the file complete? does it play?",
            )
        yield clip


def stretch(clip: Clip, start_s: float | None, end_s: float | None) -> Stretch:
    """The part of the clip that was asked for, or all of it."""
    start_s, lasts_s = start_s or 0.0, clip.duration_s
    if start_s >= lasts_s:
        raise UsageError(
            f"--start {clock(start_s)}: {shown(clip.name)} lasts {clock(lasts_s)}",
            hint="start earlier",
        )
    return start_s, lasts_s if end_s is None else min(end_s, lasts_s)


def take(clip: Clip, within: Stretch, choice: Choice) -> Taken:
    """Frames of the stretch; of what is readable of it, if the file is damaged or cut short.

    Raises InputError if nothing of it is.
    """
    start_s, end_s = within
    frames = _frames(clip, within, choice)
    damaged_s, broke_off_s = clip.damaged_s, clip.readable_to_s
    if broke_off_s is not None and broke_off_s < end_s:
        if broke_off_s <= start_s:
            raise InputError(
                f"{shown(clip.name)}: nothing can be decoded after {clock(broke_off_s)}",
                hint="choose an earlier --start and --end",
            )
        frames = _frames(clip, (start_s, broke_off_s), choice)
        if damaged_s is None and broke_off_s < end_s - _SLACK * clip.duration_s:
            damaged_s = broke_off_s
    if not frames:
        raise InputError(f"{shown(clip.name)}: no frame can be decoded", hint="does it play?")
    pictures = tuple(frame.pixels for frame in frames)
    moments = tuple(frame.time_s for frame in frames)
    return Taken(Video(clip.name, pictures, moments, clip.duration_s, clip.sha256), damaged_s)


def _frames(clip: Clip, within: Stretch, choice: Choice) -> list[Frame]:
    """Each frame once, though it may be shown at several of the times."""
    found: list[Frame] = []
    for frame in clip.frames(_moments(clip, within, choice)):
        if not found or frame.since_s > found[-1].since_s:
            found.append(frame)
    return found


def _moments(clip: Clip, within: Stretch, choice: Choice) -> Sequence[float]:
    start_s, end_s = within
    count = choice.count(end_s - start_s)
    if choice.at_changes and (found := times.at_changes(*clip.changes(start_s, end_s), count)):
        return found
    return times.spread(start_s, end_s, count)
