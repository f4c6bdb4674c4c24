"""A conversation <-> a file: Markdown for people, and the JSON form of --messages for programs."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmcli import messages, wire, writing
from vlmcli.backends import Engine
from vlmcli.chat import attaching, remembering
from vlmcli.chat.conversation import Conversation, Seen, Turn
from vlmcli.errors import InputError, UsageError, VlmError, shown
from vlmcli.inputs import pictures
from vlmcli.messages import Image, Message, Part, Text
from vlmcli.settings import Settings

MARKDOWN, JSON = (".md", ".markdown"), (".json",)
_CUT = "cut"  # a key beside "role" and "content", which other readers of the form pass over
_STOPPED = "*(stopped here)*"
_UNANSWERED = "*(no answer)*"


def write(conversation: Conversation, path: Path) -> None:
    """Write it in the form that the end of the name says. Raises UsageError or OutputError."""
    suffix = path.suffix.lower()
    if suffix not in MARKDOWN + JSON:
        raise UsageError(f"{shown(str(path))}: which form?", hint="end it in .md or .json")
    text = as_json(conversation) if suffix in JSON else as_markdown(conversation)
    with writing.replaced(path, mode=0o600) as file:
        file.write(text.encode())


def as_json(conversation: Conversation) -> str:
    """The form of --messages; pictures by the paths and addresses that they were read from."""
    said: list[dict[str, Any]] = []
    if conversation.system:
        said += wire.to_json([messages.system(conversation.system)])
    for turn in conversation.turns:
        parts = tuple(_by_address(part) for part in turn.asked.content)
        said += wire.to_json([Message("user", parts)])
        if turn.answer:
            answer = wire.to_json([Message("assistant", (Text(turn.answer),))])
            said += [answer[0] | ({_CUT: True} if turn.ending == "cut" else {})]
    return json.dumps(said, ensure_ascii=False, indent=1) + "\n"


def _by_address(part: Part) -> Part:
    """A picture from a URL by its URL, though its bytes are at hand."""
    if isinstance(part, Image) and part.name.lower().startswith(("http://", "https://")):
        return replace(part, again="")
    return part


def as_markdown(conversation: Conversation) -> str:
    """Questions as quotations, answers as they are."""
    blocks = [f"**System**\n\n{_quoted(conversation.system)}"] if conversation.system else []
    for turn in conversation.turns:
        blocks += [f"**You**\n\n{_quoted(_question(turn))}"]
        ending = {"cut": f"\n\n{_STOPPED}"}.get(turn.ending, "")
        blocks += [f"**{turn.model or 'Answer'}**\n\n{turn.answer or _UNANSWERED}{ending}"]
    return "\n\n".join(blocks) + "\n"


def _question(turn: Turn) -> str:
    parts = (p.text if isinstance(p, Text) else _linked(p) for p in turn.asked.content)
    return "\n\n".join(part.strip() for part in parts)


def _linked(seen: Seen) -> str:
    mark = "!" if isinstance(seen, Image) else ""
    name = attaching.displayed(seen.name).replace("[", "\\[").replace("]", "\\]")
    address = wire.to_json([Message("user", (_by_address(seen),))])[0]["content"][0]
    return f"{mark}[{name}](<{address[address['type']]}>)"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.splitlines())


def read(path: Path, settings: Settings, engine: Engine) -> tuple[Conversation, tuple[str, ...]]:
    """The conversation in a JSON file, and what of it cannot be seen any more, a line each.

    Raises InputError.
    """
    lost: list[str] = []
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"{shown(str(path))}: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{shown(str(path))}: not JSON: {error}") from error

    def read_image(name: str) -> Part:
        try:
            found = pictures.read_all_to_keep([name], settings)
        except InputError as error:
            lost.append(f"{error.message}; the model is told that it is gone")
            return remembering.gone(attaching.displayed(name))
        if len(found) != 1:
            raise InputError(f"{shown(name)} gives {len(found)} pictures", hint="name one of them")
        return found[0]

    def read_clip(name: str) -> Part:
        with suppress(VlmError):
            return attaching.clip(name, settings, engine)
        lost.append(f"{shown(name)} cannot be read; the model is told that it is gone")
        return remembering.gone(attaching.displayed(name))

    read = {"image": read_image, "image_url": read_image, "video": read_clip}
    said = wire.read_messages(data, read)
    items = data["messages"] if isinstance(data, dict) else data
    cut = [bool(item.get(_CUT)) for item in items]
    return _in_turns(said, cut), tuple(lost)


def _in_turns(said: Sequence[Message], cut: Sequence[bool]) -> Conversation:
    conversation = Conversation()
    for number, (message, is_cut) in enumerate(zip(said, cut, strict=True), 1):
        words = "\n".join(message.texts)
        if message.role == "system":
            conversation = replace(conversation, system=words)
        elif message.role == "user":
            turns = (*conversation.turns, Turn(message))
            conversation = replace(conversation, turns=turns)
        elif not conversation.turns:
            raise InputError(f"message {number}: an answer, and nothing was asked")
        else:
            before = conversation.turns[-1].answer
            text = f"{before}\n\n{words}" if before else words
            conversation = conversation.answer(text, "cut" if is_cut else "stop", "")
    return conversation
