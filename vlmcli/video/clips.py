"""What every kind of clip can do, and the frames that come out of it."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as Pixels

Thumbnail = NDArray[np.int16]
THUMBNAIL = (32, 18)
"""(width, height) of the grey pictures that are compared."""

FRAME_PIXELS = 1 << 20
"""Larger frames are scaled down as they are decoded: no model looks at more of each."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture of a clip: upright, in sRGB.

    `time_s` is when it was looked for, `since_s` from when on the clip shows it; both from its
    start.
    """

    time_s: float
    since_s: float
    pixels: Pixels


class Clip(Protocol):
    """An open clip. `size` is (width, height) as it is shown, in pixels.

    `readable_to_s` is where it breaks off, if it does, as soon as a frame behind that was asked
    for; `damaged_s` is where the first damage was met. `sha256` (hex) is of its file, if whoever
    opened it has noted that.
    """

    sha256: str

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def readable_to_s(self) -> float | None: ...
    @property
    def damaged_s(self) -> float | None: ...

    def frames(self, times_s: Sequence[float]) -> Iterator[Frame]:
        """The frame shown at each of the times, which rise; ends where nothing more is readable."""

    def changes(self, start_s: float, end_s: float) -> tuple[list[float], list[float]]:
        """Times of the stretch, and how much the picture at each differs from the one before."""


def differences(pictures: Sequence[Thumbnail]) -> list[float]:
    """How much each picture differs from the one before, from 0 to 255; 0 for the first."""
    pairs = itertools.pairwise(pictures)
    return [0.0] * min(1, len(pictures)) + [float(abs(b - a).mean()) for a, b in pairs]


def shown_size(width: int, height: int, aspect: float) -> tuple[int, int]:
    """The size of a frame on the screen; `aspect` is that of one of its pixels, width to height."""
    across, down = (width * aspect, float(height)) if aspect >= 1 else (width, height / aspect)
    return max(1, round(across)), max(1, round(down))


def within_limit(size: tuple[int, int]) -> tuple[int, int]:
    """The size, made smaller if it is more than FRAME_PIXELS."""
    width, height = size
    share = min(1.0, (FRAME_PIXELS / (width * height)) ** 0.5)
    return max(1, int(width * share)), max(1, int(height * share))
