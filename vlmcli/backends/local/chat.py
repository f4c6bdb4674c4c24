"""Messages -> inputs by the model's own chat template, with every word and every image kept."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import jinja2

from vlmcli.backends.local import frames, literal
from vlmcli.backends.local.inputs import (
    REFUSALS,
    Prompt,
    blank,
    blind,
    checked,
    count_image_tokens,
    refused,
    views_of,
)
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.resolution import Count, Options, telling
from vlmcli.backends.local.ways import Size
from vlmcli.errors import ModelError
from vlmcli.messages import Image, Message, Part, Text, Video, images_of, seen_of, user, videos_of

Chat = list[dict[str, Any]]


def template_of(processor: Processor) -> str | None:
    """The chat template; a tokenizer's own counts only where it has a place for pictures."""
    for owner in (processor.combined, processor.tokenizer):
        template = getattr(owner, "chat_template", None)
        if isinstance(template, dict):
            template = template.get("default")
        if template and (owner is processor.combined or "image" in template):
            return str(template)
    return None


def prepare(processor: Processor, conversation: Sequence[Message], template: str) -> Prompt:
    """The inputs for a conversation. Raises ModelError, or InputError if the processor refuses."""

    def count(size: Size, options: Options) -> int | None:
        return _count(processor, template, blank(size), {"images_kwargs": options})

    if videos_of(conversation) and frames.takes_video(processor, template):
        with suppress(ModelError):  # it lost the clip: pictures are not lost
            return _prepare_video(processor, conversation, template, count)
    shown, told = frames.as_pictures(processor, conversation, count)
    prompt = _prepare(processor, shown, template, {"images_kwargs": told} if told else {})
    # A clip is seen as a whole.
    views = () if videos_of(conversation) else views_of(processor, images_of(shown), told)
    return replace(prompt, views=views)


def _prepare_video(
    processor: Processor, conversation: Sequence[Message], template: str, count: Count
) -> Prompt:
    def count_frame(size: Size, _: Options) -> int | None:
        clip = frames.blank(size)
        tokens = _count(processor, template, clip, frames.video_options([clip]))
        return None if tokens is None else math.ceil(tokens / len(clip.frames))

    shown, told = frames.as_videos(processor, conversation, count, count_frame)
    options = frames.video_options(videos_of(shown)) | ({"images_kwargs": told} if told else {})
    return _prepare(processor, shown, template, options)


def _count(
    processor: Processor, template: str, seen: Image | Video, options: dict[str, Any]
) -> int | None:
    """The tokens of one picture or clip; None if it is refused, or takes none."""
    chat = _accepted(processor, _chat(processor, [user("x", [seen])], template), template)
    try:
        return count_image_tokens(processor, _inputs(processor, chat, template, options))
    except REFUSALS:
        return None


def _prepare(
    processor: Processor, conversation: Sequence[Message], template: str, options: dict[str, Any]
) -> Prompt:
    chat = _accepted(processor, _chat(processor, conversation, template), template)
    text = _render(processor, chat, template)
    _check_images_rendered(processor, chat, template, text)
    try:
        inputs = _inputs(processor, chat, template, options)
    except REFUSALS as error:
        raise refused(processor, seen_of(conversation), error) from error
    return checked(processor, text, inputs, len(seen_of(conversation)))


def _inputs(
    processor: Processor, chat: Chat, template: str, options: dict[str, Any]
) -> dict[str, Any]:
    with telling(processor.image_processor, options.get("images_kwargs", {})):
        inputs = processor.combined.apply_chat_template(  # type: ignore[union-attr]
            chat,
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs=options,
        )
    return dict(inputs)


def _chat(processor: Processor, conversation: Sequence[Message], template: str) -> Chat:
    chat = []
    for message in conversation:
        texts = iter(literal.protect(processor, message.texts, template))
        content = [_part(part, texts) for part in message.content]
        chat.append({"role": message.role, "content": content})
    return chat


def _part(part: Part, texts: Iterator[str]) -> dict[str, Any]:
    match part:
        case Image():
            return {"type": "image", "image": part.pixels}
        case Video():
            return {"type": "video", "video": list(part.frames)}
        case Text():
            return {"type": "text", "text": next(texts)}


def _render(processor: Processor, chat: Chat, template: str) -> str:
    rendered: str = processor.combined.apply_chat_template(  # type: ignore[union-attr]
        chat, chat_template=template, add_generation_prompt=True, tokenize=False
    )
    return rendered


def _accepted(processor: Processor, chat: Chat, template: str) -> Chat:
    """The chat in the first form in which the template keeps every text of it.

    Some templates take no system turn, some lose content that is a list, some refuse both. What is
    kept is seen with each text replaced by a mark of its own: "no" is also in "north".
    """
    numbers = itertools.count()
    marked = _with_texts(chat, lambda _: f"{literal.MARK}{next(numbers)}{literal.MARK}")
    refusal: Exception | None = None
    lost: list[str] = []
    for form in (_as_it_is, _texts_as_strings, _without_system_turn):
        try:
            rendered = _render(processor, form(marked), template)
            _render(processor, form(chat), template)
        except (jinja2.TemplateError, TypeError) as error:
            refusal = error
            continue
        pairs = zip(_texts(chat), _texts(marked), strict=True)
        lost = [text for text, mark in pairs if mark not in rendered]
        if not lost:
            return form(chat)
    if lost:
        raise ModelError(
            f"the chat template of {processor.name} drops a text: {lost[0][:40]!r}",
            hint="this model cannot take this conversation",
        )
    raise ModelError(f"the chat template of {processor.name} refuses: {refusal}") from refusal


def _texts(chat: Chat) -> list[str]:
    return [part["text"] for turn in chat for part in turn["content"] if part["type"] == "text"]


def _with_texts(chat: Chat, new: Callable[[str], str]) -> Chat:
    return [
        {
            **turn,
            "content": [
                {**part, "text": new(part["text"])} if part["type"] == "text" else part
                for part in turn["content"]
            ],
        }
        for turn in chat
    ]


def _as_it_is(chat: Chat) -> Chat:
    return chat


def _texts_as_strings(chat: Chat) -> Chat:
    return [
        turn
        if any(part["type"] != "text" for part in turn["content"])
        else {**turn, "content": "\n".join(part["text"] for part in turn["content"])}
        for turn in chat
    ]


def _without_system_turn(chat: Chat) -> Chat:
    """What the system turn says put before the first words of the first user turn."""
    system = [part for turn in chat if turn["role"] == "system" for part in turn["content"]]
    rest = [turn for turn in chat if turn["role"] != "system"]
    if not system or not rest:
        return chat
    (prefix,) = _with_texts([{"content": system}], lambda text: f"{text}\n\n")
    content = rest[0]["content"]
    words = next((i for i, part in enumerate(content) if part["type"] == "text"), len(content))
    first = {**rest[0], "content": [*content[:words], *prefix["content"], *content[words:]]}
    return [first, *rest[1:]]


def _check_images_rendered(processor: Processor, chat: Chat, template: str, text: str) -> None:
    """Never answer blind: the prompt must change when any one image or clip is left out."""
    for at, turn in enumerate(chat):
        for place, part in enumerate(turn["content"]):
            if isinstance(part, str) or part["type"] == "text":
                continue
            rest = [*turn["content"][:place], *turn["content"][place + 1 :]]
            without = [*chat[:at], {**turn, "content": rest}, *chat[at + 1 :]]
            # A template that cannot do without the image has certainly not overlooked it.
            with suppress(jinja2.TemplateError, TypeError):
                if _render(processor, without, template) == text:
                    raise blind(processor)
