"""A file -> a film of which frames can be had, opened with PyAV; what a hostile one may not do."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from vlmcli.errors import InputError, shown
from vlmcli.video import pixels
from vlmcli.video.clips import THUMBNAIL, Frame, Thumbnail, differences, shown_size
from vlmcli.video.reader import Reader, Skip

# Of files alone: a playlist (HLS, ffconcat) would have FFmpeg open whatever it names.
_DEMUXERS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,h264,hevc,av1,obu,ivf,m4v,vc1,flv,asf,ogg,mxf,nut"
    ",yuv4mpegpipe,rm,dv,gxf,wtv,vvc,live_flv,mjpeg,h263,cavsvideo,dirac"
)
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
_COVERS = Disposition.attached_pic | Disposition.timed_thumbnails

_EACH_S = 0.25
"""The least time between two pictures that are compared."""
_SPARSE_S = 2.0
"""Key frames further apart do not tell when the picture changes."""


@contextmanager
def opened(name: str, file: Path | BinaryIO, *, max_pixels: int) -> Iterator["Film"]:
    """The film in `file`. Raises InputError if it is none, or one of more than `max_pixels`."""
    with closing(Reader(partial(_open, name, file, max_pixels))) as reader:
        yield Film(name, reader)


def _open(name: str, file: Path | BinaryIO, max_pixels: int) -> tuple[InputContainer, VideoStream]:
    if not isinstance(file, Path):
        file.seek(0)
    source = f"file:{file}" if isinstance(file, Path) else file
    try:
        container = av.open(source, "r", options=_OPTIONS, metadata_errors="replace")
    except (av.FFmpegError, ValueError) as error:
        raise InputError(
            f"{shown(name)}: not a readable video",
            hint="it is damaged, cut short, or of a kind that FFmpeg does not know",
        ) from error
    try:
        return container, _pictures(name, container, max_pixels)
    except InputError:
        container.close()
        raise


def _pictures(name: str, container: InputContainer, max_pixels: int) -> VideoStream:
    """The stream of pictures: that which players show, or else the largest; a cover is none."""
    streams = [stream for stream in container.streams.video if not stream.disposition & _COVERS]
    if not streams:
        what = "only sound" if container.streams.audio else "no video"
        raise InputError(f"{shown(name)}: there is {what} in it", hint="name a clip with pictures")
    known = [s for s in streams if s.codec_context is not None and _area(s)]
    if not known:
        raise InputError(
            f"{shown(name)}: its pictures cannot be decoded here",
            hint="convert it: ffmpeg -i IN -c:v libx264 OUT.mp4",
        )
    stream = max(known, key=lambda s: (bool(s.disposition & Disposition.default), _area(s)))
    if _area(stream) > max_pixels:
        raise InputError(
            f"{shown(name)}: {stream.width} x {stream.height} is more than {max_pixels} pixels",
            hint="--max-pixels raises the limit",
        )
    stream.thread_type = "SLICE"  # a thread a frame makes every seek slower
    return stream


def _area(stream: VideoStream) -> int:
    return stream.width * stream.height


class Film:
    """A clip that a reader reads."""

    def __init__(self, name: str, reader: Reader) -> None:
        self.name, self.sha256 = name, ""
        self._reader = reader
        self.duration_s = reader.duration_s()
        first = reader.at(0.0)
        self._rotation = first.rotation if first else 0

    @property
    def size(self) -> tuple[int, int]:
        stream = self._reader.stream
        upright = shown_size(stream.width, stream.height, self._aspect)
        return upright[::-1] if self._rotation % 180 else upright

    @property
    def readable_to_s(self) -> float | None:
        return self._reader.readable_to_s

    @property
    def damaged_s(self) -> float | None:
        return self._reader.damaged_s

    def frames(self, times_s: Sequence[float]) -> Iterator[Frame]:
        for time_s in times_s:
            if (frame := self._reader.at(time_s)) is None:
                return
            since_s = max(0.0, self._reader.time_of(frame))
            yield Frame(time_s, since_s, pixels.upright(frame, self._aspect))

    def changes(self, start_s: float, end_s: float) -> tuple[list[float], list[float]]:
        times, pictures = self._thumbnails(start_s, end_s, "NONKEY")
        if statistics.median(np.diff([start_s, *times, end_s])) > _SPARSE_S:
            times, pictures = self._thumbnails(start_s, end_s, "NONREF")
        return times, differences(pictures)

    def _thumbnails(
        self, start_s: float, end_s: float, skip: Skip
    ) -> tuple[list[float], list[Thumbnail]]:
        times: list[float] = []
        pictures: list[Thumbnail] = []
        for frame in self._reader.between(start_s, end_s, skip):
            time_s = self._reader.time_of(frame)
            if not times or time_s >= times[-1] + _EACH_S:
                times.append(time_s)
                pictures.append(_thumbnail(frame))
        return times, pictures

    @property
    def _aspect(self) -> float:
        return float(self._reader.stream.sample_aspect_ratio or 1)


def _thumbnail(frame: VideoFrame) -> Thumbnail:
    width, height = THUMBNAIL
    return frame.to_ndarray(format="gray", width=width, height=height).astype(np.int16)
