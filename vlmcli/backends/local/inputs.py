"""What a model is fed, and the check that nothing of the conversation is missing from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import PIL.Image

from vlmcli.backends.local import literal
from vlmcli.backends.local.processors import Processor
from vlmcli.errors import InputError, ModelError, shown
from vlmcli.messages import Image, Video

_PIXELS = ("pixel_values", "flattened_patches", "pixel_values_videos")

# What a processor may raise for inputs that it does not take.
REFUSALS = (ValueError, TypeError, IndexError, KeyError, RuntimeError)


@dataclass(frozen=True, slots=True)
class Prompt:
    """Inputs for `generate`, and the text that they were made of ("": the family takes none).

    `image_tokens` is None for families whose pictures take no place in the prompt. `views` is how
    many views of each picture or clip there are, as far as that is known: tiles, crops.
    """

    text: str
    inputs: dict[str, Any]
    prompt_tokens: int
    image_tokens: int | None
    views: tuple[int, ...] = ()


def checked(processor: Processor, text: str, inputs: dict[str, Any], image_count: int) -> Prompt:
    """The prompt, once it is sure that every image and clip is in it and that it fits the model.

    Raises ModelError if the model would answer blind, InputError if the prompt is too long.
    """
    ids = inputs.get("input_ids")
    prompt_tokens = 0 if ids is None else int(ids.shape[1])
    seen = any(key in inputs for key in _PIXELS)
    image_tokens = count_image_tokens(processor, inputs)
    if image_count and (not seen or (image_tokens is not None and image_tokens < image_count)):
        raise blind(processor)
    limit = processor.context_tokens
    if limit is not None and prompt_tokens >= limit:
        raise InputError(
            f"the prompt is {prompt_tokens} tokens long, and {processor.name} reads {limit}",
            hint="send fewer pictures or less text, or see less of each: --detail low",
        )
    views = (1,) * image_count
    return Prompt(text.replace(literal.MARK, ""), inputs, prompt_tokens, image_tokens, views)


def views_of(
    processor: Processor, images: Sequence[Image], told: Mapping[str, Any]
) -> tuple[int, ...]:
    """How many views the processor, `told` these options, makes of each of several pictures; 1
    where it does not say."""
    if len(images) < 2:
        return (1,) * len(images)
    sizes = [(image.height, image.width) for image in images]
    numbers = getattr(processor.combined, "_get_num_multimodal_tokens", None)
    count = getattr(processor.image_processor, "get_number_of_image_patches", lambda *_: 1)
    try:
        if numbers is not None:
            counts = numbers(sizes, **told).num_image_patches
        else:
            counts = [count(*size, {**told}) for size in sizes]
    except (AttributeError, *REFUSALS):  # AttributeError: of what this processor does not have
        return (1,) * len(images)
    # SmolVLM's says the rows and columns as well, and 0 of a picture that is seen whole.
    return tuple((one[0] if isinstance(one, tuple) else one) or 1 for one in counts)


def count_image_tokens(processor: Processor, inputs: dict[str, Any]) -> int | None:
    """Of pictures and clips; None where a picture takes no place in the prompt."""
    token, ids = processor.image_token_id, inputs.get("input_ids")
    if token is None or ids is None:
        return None
    found = {token, processor.video_token_id} - {None}
    return sum(int((ids == one).sum()) for one in found)


def blank(size: tuple[int, int]) -> Image:
    """A picture of a size, to see what one takes."""
    return Image("", PIL.Image.new("RGB", size), "")


def blind(processor: Processor) -> ModelError:
    """The error of a prompt in which an image is missing."""
    return ModelError(
        f"the prompt of {processor.name} has no place for a picture that was given",
        hint="the model would answer without having seen it; take another model",
    )


def refused(processor: Processor, images: Sequence[Image | Video], error: Exception) -> InputError:
    """The error of a processor that does not take these pictures (too narrow, too small, …)."""
    names = ", ".join(shown(image.name) for image in images[:3])
    reason = " ".join(str(error).split())[:200]
    return InputError(f"{names}: the processor of {processor.name} refuses: {reason}")
