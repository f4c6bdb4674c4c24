"""A picture that moves (GIF, WebP, APNG, AVIF) -> its frames, decoded with Pillow.

FFmpeg's decoder of WebP knows no animations, and Pillow composes the frames as browsers do.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import PIL.Image

from vlmcli import images
from vlmcli.errors import shown
from vlmcli.video.clips import THUMBNAIL, Frame, differences, within_limit

_LEAST_S, _USUAL_S = 0.011, 0.1  # browsers show frames that are to be shorter for the usual time


def moves(file: Path | BinaryIO) -> bool:
    """Whether a picture has several frames."""
    try:
        with PIL.Image.open(file, formats=images.PILLOW_FORMATS) as picture:
            return picture.format != "TIFF" and getattr(picture, "n_frames", 1) > 1
    except Exception:  # damaged: the reader of pictures says how
        return False
    finally:
        if not isinstance(file, Path):
            file.seek(0)


@contextmanager
def opened(name: str, file: Path | BinaryIO, *, max_pixels: int) -> Iterator["Animation"]:
    """The animation in `file`; raises InputError if it is damaged or has too many pixels."""
    with images.damage_reported(shown(name)):
        picture = PIL.Image.open(file, formats=images.PILLOW_FORMATS)
    with picture:
        images.check_size(shown(name), picture.size, max_pixels)
        yield Animation(name, picture)


class Animation:
    """An open animation, which stands at one of its frames."""

    def __init__(self, name: str, picture: PIL.Image.Image) -> None:
        self.name, self.size, self.sha256 = name, picture.size, ""
        self.readable_to_s: float | None = None
        self.damaged_s: float | None = None
        self._picture = picture
        self._starts_s = [0.0]  # of each frame, and the end of the last
        for number in range(getattr(picture, "n_frames", 1)):
            if not self._go_to(number):
                self.damaged_s = self._starts_s[-1]
                break
            lasts_s = picture.info.get("duration", 0) / 1000
            self._starts_s.append(
                self._starts_s[-1] + (lasts_s if lasts_s >= _LEAST_S else _USUAL_S)
            )

    @property
    def duration_s(self) -> float:
        return self._starts_s[-1]

    def frames(self, times_s: Sequence[float]) -> Iterator[Frame]:
        for time_s in times_s:
            number = max(0, int(np.searchsorted(self._starts_s, time_s, side="right")) - 1)
            number = min(number, len(self._starts_s) - 2)
            if number < 0 or not self._go_to(number):
                return
            pixels = images.as_seen(self._picture)
            size = within_limit(pixels.size)
            if size != pixels.size:
                pixels = pixels.resize(size, PIL.Image.Resampling.BICUBIC)
            yield Frame(time_s, self._starts_s[number], pixels)

    def changes(self, start_s: float, end_s: float) -> tuple[list[float], list[float]]:
        times, pictures = [], []
        for number, since_s in enumerate(self._starts_s[:-1]):
            if start_s <= since_s < end_s and self._go_to(number):
                small = images.as_seen(self._picture).convert("L").resize(THUMBNAIL)
                times.append(since_s)
                pictures.append(np.asarray(small, np.int16))
        return times, differences(pictures)

    def _go_to(self, number: int) -> bool:
        """False where the file is damaged."""
        try:
            self._picture.seek(number)
            self._picture.load()
        except Exception:  # what Pillow raises for damaged bytes is not a closed set
            return False
        return True
