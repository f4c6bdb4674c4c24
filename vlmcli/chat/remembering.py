"""Messages <-> what is kept of them on the disk: pictures and clips by where they are."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vlmcli.chat import attaching
from vlmcli.chat.conversation import Conversation, Ending, Turn
from vlmcli.chat.store import Event
from vlmcli.errors import InputError
from vlmcli.inputs import clips, pictures
from vlmcli.messages import Image, Message, Part, Text, Video
from vlmcli.settings import Settings


@dataclass(frozen=True, slots=True)
class Recalled:
    """A chat from the disk. `model` is what -m said of the last one, "" if nothing was said;
    `lost` says, a line each, what can no longer be seen as it was."""

    conversation: Conversation
    model: str
    lost: tuple[str, ...]


def to_json(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """What is kept of a question: its words, and where its pictures and clips are."""
    return [_part_to_json(part) for part in parts]


def _part_to_json(part: Part) -> dict[str, Any]:
    match part:
        case Text():
            return {"type": "text", "text": part.text}
        case Image():
            place = attaching.place(part)
            return {"type": "image", "image": place, "name": part.name, "sha256": part.sha256}
        case Video():
            return {"type": "video", "video": part.name, "times": part.times_s}


def recall(events: Sequence[Event], settings: Settings) -> Recalled:
    """The conversation as it stood after all that happened. What is gone is told, and no error."""
    system: str | None = None
    model = ""
    turns: list[Turn] = []
    contents: list[list[Any]] = []
    for event in events:
        match event["event"]:
            case "begun" | "settings":
                system = _text(event.get("system")) or None
                model = _text(event.get("model")) or model
            case "asked" if isinstance(content := event.get("content"), list):
                turns.append(Turn(Message("user", ())))
                contents.append(content)
            case "answered" if turns:
                turns[-1] = _answered(turns[-1], event)
            case "taken back" if turns:
                del turns[-1], contents[-1]
    lost: list[str] = []
    asked = (Message("user", tuple(_parts(content, settings, lost))) for content in contents)
    whole = tuple(replace(turn, asked=a) for turn, a in zip(turns, asked, strict=True))
    return Recalled(Conversation(system, whole), model, tuple(dict.fromkeys(lost)))


def _answered(turn: Turn, event: Event) -> Turn:
    ending: Ending = event.get("ending", "stop")
    model, text = _text(event.get("model")), _text(event.get("text"))
    return replace(turn, answer=text, ending=ending, model=model)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _parts(content: Iterable[object], settings: Settings, lost: list[str]) -> Iterable[Part]:
    for kept in content:
        if isinstance(kept, Mapping):
            yield _part(kept, settings, lost)


def _part(kept: Mapping[str, Any], settings: Settings, lost: list[str]) -> Part:
    kind = kept.get("type")
    if kind == "text":
        return Text(_text(kept.get("text")))
    place = _text(kept.get("image") or kept.get("video"))
    name = _text(kept.get("name")) or attaching.displayed(place)
    try:
        if kind == "video":
            return clips.at(place, kept.get("times") or (0.0,), settings)
        return _image(place, name, _text(kept.get("sha256")), settings, lost)
    except InputError as error:
        lost.append(f"{error.message}; the model is told that {name} is gone")
        return gone(name)


def _image(place: str, name: str, sha256: str, settings: Settings, lost: list[str]) -> Image:
    found = pictures.read_all_to_keep([place], settings)
    if len(found) != 1:
        raise InputError(f"{name}: it is {len(found)} pictures now")
    if sha256 and found[0].sha256 != sha256:
        lost.append(f"{name} has changed since; the model is shown it as it is now")
    return replace(found[0], name=name)


def gone(name: str) -> Text:
    """What stands in the place of a picture that cannot be read any more."""
    return Text(f"[{name} was shown here, and cannot be seen any more]\n")
