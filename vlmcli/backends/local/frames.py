"""How the frames of a clip reach a model: as a video where it has an input for one, else as
pictures in the order of time, each after its time."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
from transformers.video_utils import VideoMetadata

from vlmcli import wording
from vlmcli.backends import FrameBudget
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.resolution import Count
from vlmcli.errors import InputError, UsageError, shown
from vlmcli.messages import Image, Message, Part, Text, Video, images_of, videos_of
from vlmcli.models.files import read_quietly

_USUAL = FrameBudget()
_OWN_FILE = "video_preprocessor_config.json"
_SETTINGS_FILES = (_OWN_FILE, "processor_config.json", "preprocessor_config.json")
_MILLISECONDS = 1000


def takes_video(processor: Processor, template: str) -> bool:
    """Whether the model has an input for a video, and its processor works here."""
    return processor.video_processor is not None and "video" in template


def announced(folder: Path) -> FrameBudget:
    """What the model was made for, if the settings of a video processor in its folder say so."""
    for name in _SETTINGS_FILES:
        try:
            settings = json.loads(read_quietly(folder / name))
        except (OSError, ValueError, RecursionError):
            continue
        if name != _OWN_FILE and isinstance(settings, dict):
            settings = settings.get("video_processor")
        if not isinstance(settings, dict):
            continue
        sampling = settings.get("video_sampling")
        found = settings | (sampling if isinstance(sampling, dict) else {})
        frames = found.get("num_frames") or found.get("max_frames")
        fps = found.get("fps")
        return FrameBudget(
            frames if isinstance(frames, int) and frames > 0 else _USUAL.frames,
            float(fps) if isinstance(fps, int | float) and fps > 0 else _USUAL.fps,
        )
    return _USUAL


def as_pictures(
    processor: Processor, conversation: Sequence[Message], count: Count
) -> tuple[list[Message], dict[str, Any]]:
    """The conversation with each clip as pictures in order, each after its time, and all in the
    size in which the model sees them; and what its processor is told of them."""
    seen = [
        replace(message, content=tuple(_unrolled(processor, message.content, count)))
        for message in conversation
    ]
    sizes = [image.pixels.size for image in images_of(seen)]
    return seen, processor.view.options(sizes, frames=bool(videos_of(conversation)))


def as_videos(
    processor: Processor, conversation: Sequence[Message], count: Count, count_frame: Count
) -> tuple[list[Message], dict[str, Any]]:
    """`as_pictures` for a model that takes videos: clips stay clips."""
    view = processor.view

    def sized(part: Part) -> Part:
        if isinstance(part, Text):
            return part
        with _naming(part):
            if isinstance(part, Image):
                return replace(part, pixels=view.picture(part.pixels, count))
            frames = (view.frame_of_video(frame, count_frame) for frame in part.frames)
            return replace(part, frames=tuple(frames))

    seen = [replace(one, content=tuple(map(sized, one.content))) for one in conversation]
    return seen, view.options([image.pixels.size for image in images_of(seen)])


def _unrolled(processor: Processor, content: Sequence[Part], count: Count) -> Iterator[Part]:
    view = processor.view
    for part in content:
        if isinstance(part, Image):
            with _naming(part):
                yield replace(part, pixels=view.picture(part.pixels, count))
            continue
        if isinstance(part, Text):
            yield part
            continue
        times = wording.frame_times(part.times_s)
        several = len(times) > 1
        if several:
            yield Text(f"{wording.SEQUENCE}\n")
        for time, frame in zip(times, part.frames, strict=True):
            if several:
                yield Text(f"{time}\n")
            with _naming(part):
                yield Image(f"{part.name} {time}", view.frame(frame, count), "")


@contextmanager
def _naming(seen: Image | Video) -> Iterator[None]:
    """A bound that is too low for this one, though not for all, is an error of this one."""
    try:
        yield
    except UsageError as error:
        if not seen.name:  # only tried
            raise
        raise InputError(f"{shown(seen.name)}: {error.message}", hint=error.hint) from error


def blank(size: tuple[int, int], count: int = 4) -> Video:
    """A clip of so many frames of a size, to see what one takes."""
    frame = PIL.Image.new("RGB", size)
    return Video("", (frame,) * count, tuple(float(i) for i in range(count)), float(count))


def video_options(videos: Sequence[Video]) -> dict[str, Any]:
    """What a video processor is told: the frames are chosen, and these are their times."""
    return {"do_sample_frames": False, "video_metadata": [[_metadata(video) for video in videos]]}


def _metadata(video: Video) -> VideoMetadata:
    """The times of the frames, as if they had been picked from a clip of a frame a millisecond."""
    return VideoMetadata(
        total_num_frames=max(1, round(video.duration_s * _MILLISECONDS)),
        fps=_MILLISECONDS,
        width=video.width,
        height=video.height,
        duration=video.duration_s,
        frames_indices=[round(time * _MILLISECONDS) for time in video.times_s],
    )
