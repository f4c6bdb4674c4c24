"""Clips that the tests make with PyAV: a counter is drawn in each frame, to be read back."""

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

BITS = 12
SIZE = (288, 160)
"""Each bit of the counter is a block of 24 x 40 pixels in the upper left."""


# These two print on stderr, past all that logs.
_QUIET = {"x265-params": "log-level=none"}
os.environ.setdefault("SVT_LOG", "1")


def drawn(
    number: int, size: tuple[int, int] = SIZE, ground: tuple[int, int, int] = (90, 60, 30)
) -> Any:
    """One frame: (height, width, 3) uint8."""
    width, height = size
    picture = np.full((height, width, 3), ground, np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        picture[: height // 4, left:right] = 255 if number >> bit & 1 else 0
    return picture


def counter(picture: Image.Image) -> int:
    """The number drawn in a frame, of whatever size it has become."""
    grey = picture.convert("L")
    width, height = grey.size
    middles = [int((bit + 0.5) * width / BITS) for bit in range(BITS)]
    return sum(1 << bit for bit, x in enumerate(middles) if grey.getpixel((x, height // 8)) > 127)


def make(
    path: Any,
    count: int = 50,
    *,
    fps: int = 25,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    size: tuple[int, int] = SIZE,
    options: dict[str, str] | None = None,
    starts: Sequence[int] | None = None,
    form: str | None = None,
    container: dict[str, str] | None = None,
    rotation: int = 0,
    aspect: Fraction | None = None,
    frames: Iterable[Any] | None = None,
) -> Any:
    """A clip of `count` frames in a file, named or open.

    `starts` are the times of the frames, in frames of `fps`, for a rate that varies.
    """
    with av.open(path, "w", format=form, options=container or {}) as file:
        stream = file.add_stream(codec, rate=fps, options=(options or {"g": "12"}) | _QUIET)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, fps)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        pictures = frames if frames is not None else (drawn(i, size) for i in range(count))
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = (starts[i] if starts else i), Fraction(1, fps)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def add_cover(path: Path, to: Path) -> Path:
    """The clip with a picture attached, as music and films have one."""
    with av.open(str(path)) as source, av.open(str(to), "w") as file:
        film = file.add_stream_from_template(source.streams.video[0])
        cover = file.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 640, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(drawn(4095, (640, 640)), format="rgb24")
        file.mux(cover.encode(picture.reformat(format="yuvj420p")))
        file.mux(cover.encode())
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = film
                file.mux(packet)
    return to


def sound(path: Path, seconds: float = 1.0) -> Path:
    """A file with sound and nothing else."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16_000)
        stream.layout = "mono"
        samples = np.zeros((1, int(16_000 * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path
