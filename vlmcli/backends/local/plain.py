"""Messages -> inputs for models without a chat template, in the words of their model cards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlmcli import wording
from vlmcli.backends.local import frames, literal
from vlmcli.backends.local.inputs import (
    REFUSALS,
    Prompt,
    blank,
    checked,
    count_image_tokens,
    refused,
)
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.resolution import Options
from vlmcli.backends.local.ways import Size
from vlmcli.errors import ModelError
from vlmcli.messages import Message, Text


@dataclass(frozen=True, slots=True)
class _Card:
    """How a model's card words its prompts; {} stands for the user's text."""

    captions: dict[str, str]
    question: str = "{}"
    answers: bool = True


# Wording only, from the model cards; loading and running know no families. Any other family is a
# captioner that takes the user's own words as they are.
_CARDS = {
    "florence2": _Card(
        {"short": "<CAPTION>", "detailed": "<MORE_DETAILED_CAPTION>"}, answers=False
    ),
    "paligemma": _Card({"short": "caption en", "detailed": "describe en"}, "answer en {}"),
    "blip-2": _Card({"short": ""}, "Question: {} Answer:"),
    "instructblip": _Card({"short": "A short image description:"}, "{}"),
}
_CAPTIONER = _Card({"short": ""}, answers=False)


def answers(processor: Processor) -> bool:
    """Whether the family answers questions: what only describes takes one for a beginning."""
    return _card(processor).answers


def prepare(processor: Processor, conversation: Sequence[Message]) -> Prompt:
    if [message.role for message in conversation] != ["user"]:
        raise ModelError(
            f"{processor.name} has no chat template: it takes one question and no system prompt",
            hint="take a model that chats",
        )

    def count(size: Size, options: Options) -> int | None:
        text, pixels = _plain_text(processor, conversation[0]), blank(size).pixels
        try:
            return count_image_tokens(processor, _inputs(processor, text, [pixels], options))
        except REFUSALS:  # so will the picture be
            return None

    (message,), told = frames.as_pictures(processor, conversation, count)
    images = [image.pixels for image in message.images]
    text = _plain_text(processor, message)
    if len(images) > 1 and not _sees_several(processor, text, images, told):
        raise ModelError(
            f"{processor.name} sees one picture at a time, and {len(images)} were given",
            hint="ask about each by itself, or take a model that chats",
        )
    try:
        inputs = _inputs(processor, text, images, told)
    except REFUSALS as error:
        raise refused(processor, message.images, error) from error
    return checked(processor, text, inputs, len(images))


def _card(processor: Processor) -> _Card:
    return _CARDS.get(processor.config.model_type, _CAPTIONER)


def _plain_text(processor: Processor, message: Message) -> str:
    card = _card(processor)
    texts = [part for part in message.content if isinstance(part, Text)]
    style = next((text.caption_style for text in texts if text.caption_style), "")
    if not style and processor.combined is None:
        raise ModelError(
            f"{processor.name} describes pictures and takes no text",
            hint="use vlm caption with it, or another model",
        )
    if not style:
        return card.question.format("\n".join(literal.protect(processor, message.texts, "")))
    if style not in card.captions:
        raise ModelError(
            f"{processor.name} takes no instructions, so it cannot caption in the style {style!r}",
            hint=f"it can: {', '.join(card.captions)}",
        )
    if texts[-1].text != wording.CAPTION_STYLES[style]:
        raise ModelError(
            f"{processor.name} takes no instructions: no language and no schema can be asked for",
            hint="leave out --lang and --schema, or take a model that chats",
        )
    return card.captions[style]


def _inputs(processor: Processor, text: str, images: list[Any], told: Options) -> dict[str, Any]:
    call = processor.combined or processor.image_processor
    words: dict[str, Any] = {"text": text} if text else {}
    if len(images) > 1 and text:  # nested, or several images would be a batch of prompts
        images, words = [images], {"text": [text]}
    inputs = dict(call(images=images, return_tensors="pt", **words, **told))
    inputs.pop("labels", None)  # PaliGemma's, for training
    return inputs


def _sees_several(processor: Processor, text: str, images: list[Any], told: Options) -> bool:
    """Whether several pictures get a place each in one prompt, and are not a batch of prompts."""
    try:
        one = count_image_tokens(processor, _inputs(processor, text, images[:1], told))
        every = count_image_tokens(processor, _inputs(processor, text, images, told))
    except REFUSALS:
        return False
    return one is not None and one > 0 and every == one * len(images)
