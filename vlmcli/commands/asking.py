"""What `vlm ask` is given -> a conversation."""

import json
from collections.abc import Sequence
from pathlib import Path

from vlmcli import backends, messages, sources, wire, wording
from vlmcli.errors import InputError, UsageError
from vlmcli.inputs import pictures
from vlmcli.messages import Image, Message
from vlmcli.settings import Settings


def about(
    files: Sequence[str], question: str, settings: Settings, *, recursive: bool
) -> list[Message]:
    """The conversation that asks `question` about all the pictures together."""
    if pictures.all_there(files):
        backends.begin()
    seen = pictures.read_all(files, settings, recursive=recursive)
    return wording.instructed([messages.user(question, seen)], settings.system, settings.lang)


def read_conversation(file: str, settings: Settings) -> list[Message]:
    """The conversation in a JSON file, or on stdin; its pictures are read from where we stand."""

    def read_image(name: str) -> Image:
        found = pictures.read_all([name], settings, recursive=False)
        if len(found) != 1:
            raise InputError(f"{name} gives {len(found)} pictures", hint="name one file or page")
        return found[0]

    conversation = wire.from_json(_read_json(file), read_image)
    system = settings.system
    if system and conversation[0].role == "system":
        if settings.origins["system"] == "--system":
            raise UsageError(f"--system: {file} has one already", hint="keep one of the two")
        system = None  # a habit written down gives way to what this conversation says
    return wording.instructed(conversation, system, settings.lang)


def _read_json(file: str) -> object:
    try:
        data = sources.stdin().read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise InputError(f"{file}: {(error.strerror or str(error)).lower()}") from error
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON: {error}") from error
