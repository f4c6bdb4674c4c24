"""Where in a file a decoder stands, and the shortest way from there to the frame of a time.

The shortest way is a seek to the last key frame before it, and decoding from there; or reading on,
if that key frame is behind already. Frames on which no other builds are passed over on the way.
"""

from collections.abc import Callable, Iterator
from typing import Literal

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

Skip = Literal["DEFAULT", "NONREF", "NONKEY"]
"""Which frames are not decoded: none, those on which no other builds, all but key frames."""

_NEAR_S = 1.0
"""So long before the wanted frame every frame is decoded."""
_FAR_S = 2.0
"""A file without an index is read on up to so far rather than sought in."""
_BAD_READS = 20  # one after the other, until the rest of a file is given up
_ASSUMED_RATE = 25  # frames a second of a raw stream that does not say


class Reader:
    """A decoder of one stream, standing at `held`, with the frame after it in `following`.

    Times are in seconds from the start of the stream. `readable_to_s` is where it broke off, as
    soon as a time behind that was asked for; `damaged_s` is where the first damage was met.
    """

    def __init__(self, open_anew: Callable[[], tuple[InputContainer, VideoStream]]) -> None:
        self._open = open_anew
        self._container, self.stream = open_anew()
        self._ticks = 1 / float(self.stream.time_base or 1)  # a second
        self._start = self.stream.start_time or 0  # in ticks
        self._timed = True  # packets say when they are shown
        self.readable_to_s: float | None = None
        self.damaged_s: float | None = None
        self._stand_anew()

    # How long ----------------------------------------------------------------------------------

    def duration_s(self) -> float:
        """As the file says; or else as its packets say, which are all read and none decoded."""
        if self.stream.duration:
            return self.stream.duration / self._ticks
        if self._container.duration:
            before_s = (self._container.start_time or 0) / av.time_base
            late_s = max(0.0, self._start / self._ticks - before_s)
            return self._container.duration / av.time_base - late_s
        count, end = 0, None
        for packet in self._packets():
            if packet.size == 0:
                continue
            count += 1
            moment = packet.dts if packet.pts is None else packet.pts
            if moment is not None:
                after = moment + (packet.duration or 0)
                end = after if end is None else max(end, after)
        self._timed = end is not None
        self._to_start()
        return count / self._rate if end is None else (end - self._start) / self._ticks

    @property
    def _rate(self) -> float:
        return float(self.stream.average_rate or self.stream.guessed_rate or _ASSUMED_RATE)

    def close(self) -> None:
        self._container.close()

    # To a time ---------------------------------------------------------------------------------

    def at(self, time_s: float) -> VideoFrame | None:
        """The frame shown at a time; None where nothing is readable from there on."""
        if self._is_sought(time_s):
            self._seek_before(time_s)
        else:
            self._advance(time_s)
        held = self._held
        if held is None:  # not even the first frame is so early
            return self._following
        if self._skipped and self.time_of(held) < time_s - _NEAR_S:
            # It is shown for long; or one in between was among those that were passed over.
            self._seek(time_s)
            self._advance(time_s, skipping=False)
            held = self._held or held
        if self._following is None:
            end_s = self.time_of(held) + float(held.duration or 0) / self._ticks
            if time_s > end_s + _NEAR_S:
                self.readable_to_s = end_s
                return None
        return held

    def between(self, start_s: float, end_s: float, skip: Skip) -> Iterator[VideoFrame]:
        """The frames of a stretch, in order."""
        self._seek(start_s)
        for frame in self._decode(skip):
            if self.time_of(frame) >= end_s:
                break
            if self.time_of(frame) >= start_s:
                yield frame
        self._seek(start_s)

    def time_of(self, frame: VideoFrame) -> float:
        return self._seconds(frame.pts or 0)

    def _is_sought(self, time_s: float) -> bool:
        """Whether a seek is a shorter way to the time than reading on, or the only one."""
        latest = self._following or self._held
        if latest is None:
            return True
        earliest_s = self.time_of(self._held or latest)
        if time_s < earliest_s or not self._timed:
            return time_s < earliest_s
        index = self.stream.index_entries
        found = index.search_timestamp(self._ticks_of(time_s)) if len(index) else -1
        if found >= 0:
            return bool(index[found].timestamp > (latest.pts or 0))
        return time_s > self.time_of(latest) + _FAR_S

    def _seek_before(self, time_s: float) -> None:
        """Seek; and again further back where that leads to a frame too late, or to damage."""
        back_s = 0.0
        while self._timed and back_s < time_s:
            self._seek(time_s - back_s)
            self._advance(time_s)
            if self._held is not None:
                return
            back_s = max(1.0, back_s * 4)
        self._to_start()
        self._advance(time_s)

    def _seek(self, time_s: float) -> None:
        """Stand before the last key frame at or before the time; nothing is decoded yet."""
        try:
            self._container.seek(self._ticks_of(time_s), stream=self.stream)
        except av.FFmpegError:
            self._to_start()
        else:
            self._stand_anew()

    def _to_start(self) -> None:
        """Not by a seek: in some kinds of files that does not lead to the first frame."""
        self._container.close()
        self._container, self.stream = self._open()
        self._stand_anew()

    def _stand_anew(self) -> None:
        self._held: VideoFrame | None = None
        self._following: VideoFrame | None = None
        self._skipped = False
        self._count = 0  # of frames since the start, the clock of a stream that has none
        self._wanted_s = 0.0
        self._decoded = self._decode()

    def _advance(self, time_s: float, *, skipping: bool = True) -> None:
        """Decode until the frame shown at the time is held, and the one after it known."""
        self._wanted_s = time_s if skipping else 0.0
        while self._following is None or self.time_of(self._following) <= time_s:
            self._held = self._following or self._held
            self._following = next(self._decoded, None)
            if self._following is None:
                return

    # Decoding ----------------------------------------------------------------------------------

    def _decode(self, skip: Skip = "DEFAULT") -> Iterator[VideoFrame]:
        """Frames from here on in the order of time, past what is damaged."""
        sound = False  # what comes before the first key frame may be in pieces
        for packet in self._packets():
            passed = packet.pts is not None and self._seconds(packet.pts) < self._wanted_s - _NEAR_S
            self._skipped |= passed
            self.stream.codec_context.skip_frame = "NONREF" if passed else skip
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if sound and self.damaged_s is None and packet.pts is not None:
                    self.damaged_s = self._seconds(packet.pts)
                continue
            for frame in frames:
                if isinstance(frame, VideoFrame) and not frame.is_corrupt:
                    sound = True
                    yield self._timed_frame(frame)

    def _timed_frame(self, frame: VideoFrame) -> VideoFrame:
        if not self._timed or frame.pts is None:
            frame.pts = self._start + round(self._count / self._rate * self._ticks)
        self._count += 1
        return frame

    def _packets(self) -> Iterator["Packet[VideoStream]"]:
        """Of the stream; the last one makes the decoder hand out what it has kept back."""
        failures = 0
        while failures < _BAD_READS:
            try:
                for packet in self._container.demux(self.stream):
                    failures = 0
                    yield packet
                return
            except av.FFmpegError:
                failures += 1

    def _seconds(self, ticks: int) -> float:
        return (ticks - self._start) / self._ticks

    def _ticks_of(self, time_s: float) -> int:
        return self._start + round(time_s * self._ticks)
