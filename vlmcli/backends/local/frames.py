"""How the frames of a clip reach a model: as a video where it has an input for one, else as
pictures in the order of time, each after its time."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
from transformers.video_utils import VideoMetadata

from vlmcli import wording
from vlmcli.backends import FrameBudget
from vlmcli.backends.local.processors import Processor
from vlmcli.messages import Image, Message, Part, Text, Video
from vlmcli.models.files import read_quietly

_USUAL = FrameBudget()
_LARGEST = 448 * 448
"""Pixels of a frame for processors that give large pictures more tokens: 256 tokens or so."""

# What makes several tiles of one picture, and how it is turned off. A clip has many pictures: each
# is seen whole, as the video processors of these families see it.
_ONE_TILE = {"do_image_splitting": False, "crop_to_patches": False, "do_pan_and_scan": False}
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


def as_pictures(processor: Processor, conversation: Sequence[Message]) -> list[Message]:
    """The conversation with each clip as pictures in order, each after its time."""
    return [
        replace(message, content=tuple(_unrolled(processor, message.content)))
        for message in conversation
    ]


def _unrolled(processor: Processor, content: Sequence[Part]) -> Iterator[Part]:
    for part in content:
        if not isinstance(part, Video):
            yield part
            continue
        times = wording.frame_times(part.times_s)
        several = len(times) > 1
        if several:
            yield Text(f"{wording.SEQUENCE}\n")
        for time, frame in zip(times, part.frames, strict=True):
            if several:
                yield Text(f"{time}\n")
            yield Image(f"{part.name} {time}", _sized(processor, frame), "")


def _sized(processor: Processor, frame: PIL.Image.Image) -> PIL.Image.Image:
    """The frame, smaller if each of its pixels would cost tokens."""
    share = (_LARGEST / (frame.width * frame.height)) ** 0.5
    if share >= 1 or not hasattr(processor.image_processor, "merge_size"):
        return frame
    width, height = max(1, int(frame.width * share)), max(1, int(frame.height * share))
    return frame.resize((width, height), PIL.Image.Resampling.BICUBIC)


def one_tile_each(processor: Processor) -> dict[str, Any]:
    """What the processor is told so that it cuts no frame into tiles."""
    kinds = getattr(processor.image_processor, "valid_kwargs", None)
    taken = getattr(kinds, "__annotations__", {})
    return {name: value for name, value in _ONE_TILE.items() if name in taken}


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
