"""Messages -> what a model is fed, and what `--dry-run` shows of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vlmcli import phases, wording
from vlmcli.backends import FrameBudget, ImagePreview
from vlmcli.backends.local import chat, frames, plain
from vlmcli.backends.local.inputs import Prompt, blank
from vlmcli.backends.local.processors import Processor
from vlmcli.errors import InputError, ModelError, VlmError
from vlmcli.messages import Image, Message, Text, Video, seen_of, user

_ANSWER_TOKENS = 1024
"""Of the context, left free for the question and the answer."""
_ICON = (32, 32)
_EXAMPLE = (640, 360)
"""Of a frame, (width, height) in pixels, for telling how many have room."""


@phases.noted("prompt")
def prepare(processor: Processor, conversation: Sequence[Message]) -> Prompt:
    """What the model is given for `conversation`, every image and every word accounted for.

    Raises ModelError when the family cannot take it, or would answer without having seen an image.
    """
    template = chat.template_of(processor)
    if template is None:
        return plain.prepare(processor, conversation)
    return chat.prepare(processor, conversation, template)


def check_answers(processor: Processor) -> None:
    """Raises ModelError for a family that describes pictures and answers no questions."""
    if chat.template_of(processor) is None and not plain.answers(processor):
        raise ModelError(
            f"{processor.name} describes pictures and answers no questions",
            hint="take a model that chats, such as -m smolvlm",
        )


def check_bound(processor: Processor) -> None:
    """Raises UsageError where no picture takes so few tokens as the user allows."""
    if processor.sight.max_tokens is None:
        return
    words = Text(wording.CAPTION_STYLES["short"], "short")  # which every family takes
    prepare(processor, [user(words, [blank(_ICON)])])


def frame_budget(processor: Processor, folder: Path) -> FrameBudget:
    """What the model was made for, if its folder says so, as far as its context has room."""
    budget = frames.announced(folder)
    limit, tokens = processor.context_tokens, _tokens_of_a_frame(processor)
    if limit is None or tokens == 0:
        return budget
    room = (limit - _ANSWER_TOKENS) // tokens
    return replace(budget, frames=max(1, min(budget.frames, room)))


def _tokens_of_a_frame(processor: Processor) -> int:
    """What each frame of a clip takes in the prompt, its time included; 0 if that is not known."""
    lengths = []
    try:
        for count in (2, 4):
            clip = frames.blank(_EXAMPLE, count)
            lengths.append(prepare(processor, [user("x", [clip])]).prompt_tokens)
    except VlmError:  # what sees one picture at a time says so when it is asked
        return 0
    return (lengths[1] - lengths[0]) // 2


def preview_images(
    processor: Processor, conversation: Sequence[Message], prompt: Prompt
) -> tuple[ImagePreview, ...]:
    """What each picture and clip of `prompt` became."""
    seen = seen_of(conversation)
    tokens = _tokens_each(processor, conversation, prompt)
    return tuple(
        _preview(processor, conversation, one, count)
        for one, count in zip(seen, tokens, strict=True)
    )


def _preview(
    processor: Processor, conversation: Sequence[Message], seen: Image | Video, tokens: int | None
) -> ImagePreview:
    alone = _alone(processor, conversation, seen)
    size, tiles = _resized(processor, alone.inputs)
    if tokens != alone.image_tokens:  # beside other images this one is cut differently
        tiles = None
    return ImagePreview(seen.name, (seen.width, seen.height), size, tiles, tokens)


def _alone(processor: Processor, conversation: Sequence[Message], seen: Image | Video) -> Prompt:
    """The prompt about one picture, or about one frame of a clip, and nothing else."""
    words = next((p for m in conversation for p in m.content if isinstance(p, Text)), Text("x"))
    if isinstance(seen, Video):
        seen = replace(seen, frames=seen.frames[:1], times_s=seen.times_s[:1])
    return prepare(processor, [user(words, [seen])])


def _resized(
    processor: Processor, inputs: dict[str, Any]
) -> tuple[tuple[int, int] | None, int | None]:
    """The size of one tile of a single image (width, height), and how many there are."""
    grid = inputs.get("image_grid_thw", inputs.get("video_grid_thw"))
    if grid is not None:
        _, rows, columns = (int(n) for n in grid[0])  # patches, not pixels
        patch = int(processor.image_processor.patch_size)
        return (columns * patch, rows * patch), 1
    pixels = inputs.get("pixel_values", inputs.get("pixel_values_videos"))
    if not isinstance(pixels, torch.Tensor) or pixels.ndim < 4:  # packed patches
        return None, None
    *tiles, _, height, width = pixels.shape  # (1, tiles, 3, H, W) or (tiles, 3, H, W)
    return (width, height), int(torch.tensor(tiles).prod())


def _tokens_each(
    processor: Processor, conversation: Sequence[Message], prompt: Prompt
) -> list[int | None]:
    seen = seen_of(conversation)
    if len(seen) == 1 or prompt.image_tokens is None:
        return [prompt.image_tokens] * len(seen)
    # How an image is cut can depend on the others, and templates move images about: what one of
    # them takes is what the prompt grows by when it is there twice.
    try:
        doubled = [prepare(processor, _twice(conversation, one)) for one in seen]
    except InputError:  # with one more the prompt would be too long
        return [None] * len(seen)
    counts = [(more.image_tokens or 0) - prompt.image_tokens for more in doubled]
    return [*counts] if sum(counts) == prompt.image_tokens else [None] * len(seen)


def _twice(conversation: Sequence[Message], seen: Image | Video) -> list[Message]:
    """The conversation with `seen` (this very object) doubled where it stands."""
    return [
        Message(
            message.role,
            tuple(
                p for part in message.content for p in ([part, part] if part is seen else [part])
            ),
        )
        for message in conversation
    ]
