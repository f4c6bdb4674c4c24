"""Messages -> inputs by the model's own chat template, with every word and every image kept."""

from collections.abc import Sequence
from typing import Any

import jinja2

from vlmcli.backends.local import literal
from vlmcli.backends.local.inputs import REFUSALS, Prompt, blind, checked, refused
from vlmcli.backends.local.processors import Processor
from vlmcli.errors import ModelError
from vlmcli.messages import Image, Message, Text, images_of

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
    chat = [
        {"role": message.role, "content": [_part(processor, template, p) for p in message.content]}
        for message in conversation
    ]
    chat = _accepted(processor, chat, template)
    text = _render(processor, chat, template)
    _check_images_rendered(processor, chat, template, text)
    try:
        inputs = processor.combined.apply_chat_template(  # type: ignore[union-attr]
            chat,
            chat_template=template,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    except REFUSALS as error:
        raise refused(processor, error) from error
    return checked(processor, text, dict(inputs), len(images_of(conversation)))


def _part(processor: Processor, template: str, part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Image):
        return {"type": "image", "image": part.pixels}
    return {"type": "text", "text": literal.protect(processor, part.text, template)}


def _render(processor: Processor, chat: Chat, template: str) -> str:
    rendered: str = processor.combined.apply_chat_template(  # type: ignore[union-attr]
        chat, chat_template=template, add_generation_prompt=True, tokenize=False
    )
    return rendered


def _accepted(processor: Processor, chat: Chat, template: str) -> Chat:
    """The chat in the first form in which the template keeps every word of it.

    Some templates take no system turn, some lose content that is a list, some refuse both.
    """
    refusal: Exception | None = None
    lost = ""
    for form in (chat, _texts_as_strings(chat), _without_system_turn(chat)):
        try:
            rendered = _render(processor, form, template)
        except (jinja2.TemplateError, TypeError) as error:
            refusal = error
            continue
        missing = [text for text in _texts(chat) if text.strip() not in rendered]
        if not missing:
            return form
        lost = missing[0]
    if lost:
        raise ModelError(
            f"the chat template of {processor.name} drops a text: {lost[:40]!r}",
            hint="this model cannot take this conversation",
        )
    raise ModelError(f"the chat template of {processor.name} refuses: {refusal}") from refusal


def _texts(chat: Chat) -> list[str]:
    return [part["text"] for turn in chat for part in turn["content"] if part["type"] == "text"]


def _texts_as_strings(chat: Chat) -> Chat:
    return [
        turn
        if any(part["type"] == "image" for part in turn["content"])
        else {**turn, "content": "\n".join(part["text"] for part in turn["content"])}
        for turn in chat
    ]


def _without_system_turn(chat: Chat) -> Chat:
    """System texts put before the first words of the first user turn."""
    system = [part for turn in chat if turn["role"] == "system" for part in turn["content"]]
    rest = [turn for turn in chat if turn["role"] != "system"]
    if not system or not rest:
        return chat
    prefix = [{"type": "text", "text": f"{part['text']}\n\n"} for part in system]
    content = rest[0]["content"]
    words = next((i for i, part in enumerate(content) if part["type"] == "text"), len(content))
    first = {**rest[0], "content": [*content[:words], *prefix, *content[words:]]}
    return [first, *rest[1:]]


def _check_images_rendered(processor: Processor, chat: Chat, template: str, text: str) -> None:
    """Never answer blind: the prompt must change when any one image is left out of it."""
    for at, turn in enumerate(chat):
        for place, part in enumerate(turn["content"]):
            if isinstance(part, str) or part["type"] != "image":
                continue
            rest = [*turn["content"][:place], *turn["content"][place + 1 :]]
            without = [*chat[:at], {**turn, "content": rest}, *chat[at + 1 :]]
            if _render(processor, without, template) == text:
                raise blind(processor)
