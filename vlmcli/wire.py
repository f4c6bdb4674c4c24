"""The JSON form of a conversation <-> Message: the Hub's chat format, and OpenAI's image_url."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from vlmcli.errors import InputError
from vlmcli.messages import Image, Message, Part, Role, Text, Video

ReadImage = Callable[[str], Image]
ReadPart = Callable[[str], Part]

_SHAPES = (
    'a part is {"type": "text", "text": "…"}, {"type": "image", "image": "file or URL"}'
    ' or {"type": "image_url", "image_url": {"url": "…"}}'
)


def to_json(conversation: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation as `--messages` takes it; images by the names they were read from."""
    return [
        {"role": message.role, "content": [_part_to_json(part) for part in message.content]}
        for message in conversation
    ]


def to_named_json(conversation: Sequence[Message]) -> list[dict[str, Any]]:
    """As `to_json`, images by what the user called them: what came from no file stays outside."""
    return to_json([replace(message, content=_named(message.content)) for message in conversation])


def _named(content: Sequence[Part]) -> tuple[Part, ...]:
    return tuple(replace(part, again="") if isinstance(part, Image) else part for part in content)


def _part_to_json(part: Part) -> dict[str, Any]:
    if isinstance(part, Image):
        return {"type": "image", "image": part.again or part.name}
    if isinstance(part, Video):
        return {"type": "video", "video": part.name}
    return {"type": "text", "text": part.text}


def from_json(data: object, read_image: ReadImage) -> list[Message]:
    """The messages that `data`, decoded JSON, describes; `read_image` is given a path or a URL.

    Also takes what `--dry-run` prints, or OpenAI's request body: an object with "messages". Raises
    InputError that names the message and the part, both counted from 1.
    """
    messages = read_messages(data, {"image": read_image, "image_url": read_image})
    if messages[-1].role != "user":
        raise InputError(
            f"message {len(messages)}: the last one is the {messages[-1].role}'s",
            hint="end with a user message, which the model answers",
        )
    return messages


def read_messages(data: object, read: Mapping[str, ReadPart]) -> list[Message]:
    """As `from_json`, and anybody may have the last word.

    `read` makes a part of what each type of it but "text" names, by a path or a URL.
    """
    if isinstance(data, Mapping) and "messages" in data:
        data = data["messages"]
    if not isinstance(data, list) or not data:
        raise InputError("messages: not a list of messages", hint='[{"role": "user", …}, …]')
    messages = [_message(item, f"message {n}", read) for n, item in enumerate(data, 1)]
    for n, message in enumerate(messages, 1):
        if message.role == "system" and n > 1:
            raise InputError(f"message {n}: a system message comes first", hint="or leave it out")
    return messages


def _message(item: object, where: str, read: Mapping[str, ReadPart]) -> Message:
    if not isinstance(item, Mapping):
        raise InputError(f"{where}: not an object", hint='{"role": "user", "content": […]}')
    role = item.get("role")
    if role not in get_args(Role):
        raise InputError(
            f"{where}: the role is {role!r}", hint=f"one of {', '.join(get_args(Role))}"
        )
    content = item.get("content")
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list) or not content:
        raise InputError(
            f"{where}: the content is neither a text nor a list of parts", hint=_SHAPES
        )
    parts = [_part(part, f"{where}, part {n}", read) for n, part in enumerate(content, 1)]
    return Message(cast(Role, role), tuple(parts))


def _part(part: object, where: str, read: Mapping[str, ReadPart]) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping) or kind not in ("text", *read):
        raise InputError(f"{where}: the type is {kind!r}", hint=_SHAPES)
    if kind == "text":
        return Text(_string(part.get("text"), f'{where}: "text"'))
    if kind == "image_url":
        wrapped = part.get("image_url")
        url = wrapped.get("url") if isinstance(wrapped, Mapping) else wrapped
        name = _string(url, f'{where}: "image_url"')
    else:
        given = [key for key in (kind, "url", "path") if key in part]
        if len(given) != 1:
            raise InputError(f"{where}: names {len(given)} {kind}s", hint=_SHAPES)
        name = _string(part[given[0]], f'{where}: "{given[0]}"')
    try:
        return read[kind](name)
    except InputError as error:
        raise InputError(f"{where}: {error.message}", hint=error.hint) from error


def _string(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where} is not a text, or is empty", hint=_SHAPES)
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise InputError(f"{where} holds half a character", hint="\\ud800 to \\udfff come in pairs")
    return value
