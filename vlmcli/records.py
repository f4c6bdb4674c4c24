"""What a record says of how its answer came about, both ways: written down, and read again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from typing import Any

from vlmcli import config, messages, wire
from vlmcli.errors import InputError, UsageError
from vlmcli.messages import Image, Message, Part, Text, Video
from vlmcli.settings import ANSWERING, SEEING, TABLE, Settings

# Written down ----------------------------------------------------------------------------------


def beyond_prompt(conversation: Sequence[Message], system: str | None) -> dict[str, object]:
    """What a record needs beside its prompt and its system setting to tell the conversation.

    `style`, where the prompt is one of vlm's own caption prompts; `messages`, where there is more
    in it than one question about all that is seen.
    """
    *seen, words = conversation[-1].content or (Text(""),)
    if not isinstance(words, Text) or any(isinstance(part, Text) for part in seen):
        return {"messages": wire.to_named_json(conversation)}
    if list(conversation) != _single(words, seen, system):
        return {"messages": wire.to_named_json(conversation)}
    return {"style": words.caption_style} if words.caption_style else {}


def _single(words: Text, seen: Sequence[Part], system: str | None) -> list[Message]:
    """A conversation of one question."""
    asked = Message("user", (*seen, words))
    return [messages.system(system), asked] if system else [asked]


def versions(packages: Sequence[str], seen: Sequence[Image | Video]) -> dict[str, str]:
    """The versions of the packages that an answer can depend on: `packages`, and the decoders."""
    decoders = []
    if seen:
        decoders.append("pillow")
    if any(isinstance(one, Video) for one in seen):
        decoders.append("av")
    if any("#page=" in one.name for one in seen):
        decoders.append("pypdfium2")
    found = {name: _version(name) for name in (*packages, *decoders)}
    return {name: version for name, version in found.items() if version}


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


# Read again ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture or clip as a record tells it; `size` is (width, height) in pixels.

    `frames` are the times of the frames of a clip, in seconds; None for a picture.
    """

    name: str
    sha256: str
    size: tuple[int, int]
    frames: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A record, and what it says, checked as far as an answer depends on it.

    `messages` is the conversation, its pictures and clips by their numbers in `seen`; None if it is
    one question.
    """

    fields: Mapping[str, Any]
    text: str
    model: str
    revision: str | None
    fingerprint: str
    device: str
    dtype: str
    prompt: Text
    messages: Sequence[Mapping[str, Any]] | None
    settings: Mapping[str, object]
    seen: tuple[Seen, ...]
    versions: Mapping[str, str]

    def answering(self, base: Settings) -> Settings:
        """`base`, but what it says of the answer is what the record says. Raises InputError.

        How pictures are seen and in what numbers is the record's too, unless it was typed.
        """
        settings, typed = base.unasked(), base.typed()
        untyped = {name: TABLE[name].default for name in SEEING if name not in typed}
        settings = replace(settings, **untyped)  # type: ignore[arg-type]
        for name, value in self.settings.items():
            if name in SEEING and name in typed:
                continue
            if name not in (*SEEING, *ANSWERING):
                raise InputError(
                    f"settings: no setting is called {name!r}", hint="is it of a newer vlm?"
                )
            # A record has what was made of these, not what was typed.
            if name == "choices":
                value = [json.dumps(value)]
            setting = "schema" if name == "schema_multi" else name
            try:
                settings = config.changed(settings, setting, value, f"settings: {name}")
            except UsageError as error:
                raise InputError(error.message, hint=error.hint) from error
        return settings

    def conversation(self, seen: Sequence[Image | Video]) -> list[Message]:
        """What was asked about `seen`, which is as many as `self.seen`. Raises InputError."""
        if self.messages is None:
            system = self.settings.get("system")
            return _single(self.prompt, seen, system if isinstance(system, str) else None)

        def read(number: str) -> Image | Video:
            return seen[int(number)]

        return wire.read_messages(list(self.messages), {"image": read, "video": read})


def documents(text: str) -> Iterator[object | InputError]:
    """Every JSON value of a text, an object of a list each for itself; lines or indented.

    An InputError stands for what is no JSON, up to the next line that is.
    """
    decode = json.JSONDecoder().raw_decode
    position, broken = 0, False
    while (start := _past_space(text, position)) < len(text):
        try:
            value, position = decode(text, start)
        except (ValueError, RecursionError) as error:
            if not broken:
                line = text.count("\n", 0, start) + 1
                yield InputError(f"line {line}: not JSON: {error}", hint="is it cut short?")
            broken = True
            position = text.find("\n", start)
            if position < 0:
                return
        else:
            broken = False
            yield from value if isinstance(value, list) else [value]


def _past_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def read(value: object) -> Recorded:
    """What a record says. Raises InputError if that is not enough to repeat its answer."""
    if not isinstance(value, Mapping):
        raise InputError("not a record of vlm: no object")
    if "statement" in value:
        raise InputError("a record of vlm grep has no text to compare", hint="run vlm grep again")
    seen = _seen(value)
    told = value.get("messages")
    if told is not None:
        told = _numbered(told, len(seen))
    settings, made_with = value.get("settings", {}), value.get("versions", {})
    if not isinstance(settings, Mapping) or not isinstance(made_with, Mapping):
        raise InputError('not a record of vlm: "settings" and "versions" are objects')
    if isinstance(seed := value.get("seed"), int):  # vlm drew it, and no setting says it
        settings = {"seed": seed, **settings}
    if "quantize" in settings and isinstance(came_to := value.get("quantize"), str):
        settings = {**settings, "quantize": came_to}  # auto may come to something else here
    style = value.get("style", "")
    return Recorded(
        fields=value,
        text=_text(value, "text"),
        model=_text(value, "model"),
        revision=value["revision"] if isinstance(value.get("revision"), str) else None,
        fingerprint=str(value.get("fingerprint") or ""),
        device=_text(value, "device"),
        dtype=_text(value, "dtype"),
        prompt=Text(_text(value, "prompt"), style if isinstance(style, str) else ""),
        messages=told,
        settings=settings,
        seen=seen,
        versions={str(name): str(version) for name, version in made_with.items()},
    )


def name_of(value: object) -> str:
    """The files that a record is about."""
    fields = value if isinstance(value, Mapping) else {}
    return ", ".join(str(name) for name in _each(fields.get("file")))


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise InputError(f'not a record of vlm: no "{name}"', hint="--json makes them")
    return value


def _each(value: object) -> Sequence[Any]:
    """One, or a list of several, as `answers.record` writes it."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _seen(fields: Mapping[str, Any]) -> tuple[Seen, ...]:
    names, digests, widths, heights = (
        _each(fields.get(name)) for name in ("file", "sha256", "width", "height")
    )
    clips = list(_each(fields.get("clips")))
    found = []
    try:
        for name, digest, *size in zip(names, digests, widths, heights, strict=True):
            frames = None
            if clips and clips[0]["file"] == name:
                frames = tuple(float(time_s) for time_s in clips.pop(0)["frames"])
            found.append(Seen(str(name), str(digest), (int(size[0]), int(size[1])), frames))
    except (ValueError, TypeError, LookupError) as error:
        raise InputError(
            'not a record of vlm: "file", "sha256", "width", "height" and "clips" do not match'
        ) from error
    return tuple(found)


def _numbered(told: object, count: int) -> list[Mapping[str, Any]]:
    """The messages, pictures and clips by their number: a name of theirs may be any bytes."""
    numbers = iter(range(count))

    def part(given: Any) -> Any:
        kind = given["type"]
        return given if kind == "text" else {"type": kind, kind: str(next(numbers))}

    found: list[Mapping[str, Any]]
    try:
        found = [{**one, "content": [part(each) for each in one["content"]]} for one in told]  # type: ignore[attr-defined]
    except (TypeError, LookupError, StopIteration, RuntimeError) as error:
        raise InputError('not a record of vlm: its "messages" are no conversation') from error
    if next(numbers, None) is not None:
        raise InputError('not a record of vlm: "messages" and "file" do not match')
    return found
