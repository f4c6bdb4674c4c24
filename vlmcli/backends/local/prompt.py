"""Messages -> what a model is fed, and what `--dry-run` shows of it."""

from collections.abc import Sequence
from typing import Any

import torch

from vlmcli.backends import ImagePreview
from vlmcli.backends.local import chat, plain
from vlmcli.backends.local.inputs import Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.errors import InputError
from vlmcli.messages import Image, Message, Text, images_of, user


def prepare(processor: Processor, conversation: Sequence[Message]) -> Prompt:
    """What the model is given for `conversation`, every image and every word accounted for.

    Raises ModelError when the family cannot take it, or would answer without having seen an image.
    """
    template = chat.template_of(processor)
    if template is None:
        return plain.prepare(processor, conversation)
    return chat.prepare(processor, conversation, template)


def preview_images(
    processor: Processor, conversation: Sequence[Message], prompt: Prompt
) -> tuple[ImagePreview, ...]:
    """What each image of `prompt` became."""
    images = images_of(conversation)
    tokens = _tokens_per_image(processor, conversation, prompt)
    return tuple(
        _preview(processor, conversation, image, count)
        for image, count in zip(images, tokens, strict=True)
    )


def _preview(
    processor: Processor, conversation: Sequence[Message], image: Image, tokens: int | None
) -> ImagePreview:
    alone = _alone(processor, conversation, image)
    size, tiles = _resized(processor, alone.inputs)
    if tokens != alone.image_tokens:  # beside other images this one is cut differently
        tiles = None
    return ImagePreview(image.name, (image.width, image.height), size, tiles, tokens)


def _alone(processor: Processor, conversation: Sequence[Message], image: Image) -> Prompt:
    words = next((p for m in conversation for p in m.content if isinstance(p, Text)), Text("x"))
    return prepare(processor, [user(words, [image])])


def _resized(
    processor: Processor, inputs: dict[str, Any]
) -> tuple[tuple[int, int] | None, int | None]:
    """The size of one tile of a single image (width, height), and how many there are."""
    if (grid := inputs.get("image_grid_thw")) is not None:
        _, rows, columns = (int(n) for n in grid[0])  # patches, not pixels
        patch = int(processor.image_processor.patch_size)
        return (columns * patch, rows * patch), 1
    pixels = inputs.get("pixel_values")
    if not isinstance(pixels, torch.Tensor) or pixels.ndim < 4:  # packed patches
        return None, None
    *tiles, _, height, width = pixels.shape  # (1, tiles, 3, H, W) or (tiles, 3, H, W)
    return (width, height), int(torch.tensor(tiles).prod())


def _tokens_per_image(
    processor: Processor, conversation: Sequence[Message], prompt: Prompt
) -> list[int | None]:
    images = images_of(conversation)
    if len(images) == 1 or prompt.image_tokens is None:
        return [prompt.image_tokens] * len(images)
    # How an image is cut can depend on the others, and templates move images about: what one of
    # them takes is what the prompt grows by when it is there twice.
    try:
        doubled = [prepare(processor, _twice(conversation, image)) for image in images]
    except InputError:  # with one more the prompt would be too long
        return [None] * len(images)
    counts = [(more.image_tokens or 0) - prompt.image_tokens for more in doubled]
    return [*counts] if sum(counts) == prompt.image_tokens else [None] * len(images)


def _twice(conversation: Sequence[Message], image: Image) -> list[Message]:
    """The conversation with `image` (this very object) doubled where it stands."""
    return [
        Message(
            message.role,
            tuple(
                p for part in message.content for p in ([part, part] if part is image else [part])
            ),
        )
        for message in conversation
    ]
