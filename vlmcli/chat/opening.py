"""How a chat begins, or goes on: what was named is read first, then the model is loaded."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from vlmcli import answers, backends, config, output, sources
from vlmcli.chat import attaching, loop, remembering, store
from vlmcli.chat.conversation import Conversation, Seen
from vlmcli.chat.session import Session
from vlmcli.chat.store import Event, Transcript
from vlmcli.errors import UsageError
from vlmcli.inputs import pictures
from vlmcli.settings import Settings

_SHOWN_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says: `goes_on` is the name of a chat, "" for the last, None: a new."""

    files: Sequence[str] = ()
    recursive: bool = False
    thumbnails: bool = True
    goes_on: str | None = None


def run(settings: Settings, wishes: Wishes) -> int:
    """Hold the conversation; returns the exit code."""
    typed = sys.stdin is not None and sys.stdin.isatty()
    if "-" in wishes.files:
        raise UsageError("- is where the questions come from", hint="name pictures by their files")
    if pictures.all_there(wishes.files):
        backends.begin()
    seen = [_read(file, settings, wishes) for file in wishes.files]
    with ExitStack() as stack:
        kept, talk = Transcript(), Conversation(settings.system)
        if wishes.goes_on is not None:
            kept, events = store.reopened(store.find(wishes.goes_on))
            stack.callback(kept.close)
            talk, settings = _recall(kept.name, events, settings)
        engine = answers.load(settings)
        session = Session(settings, engine, kept, talk, thumbnails=typed and wishes.thumbnails)
        stack.callback(lambda: session.kept.close())  # which may be another in the end
        if wishes.goes_on is None:
            session.begin()
            if typed:
                output.note(f"{engine.label}; /help lists what can be typed")
        for one in seen:
            session.stage(one if isinstance(one, list) else _clip(one, session))
        return _talk(session, typed=typed)


def _talk(session: Session, *, typed: bool) -> int:
    if not typed:
        return loop.on_lines(session)
    loop.on_terminal(session)
    if session.kept.name:
        output.note(f"kept as {session.kept.name}; vlm chat -c goes on with it")
    return 0


def _read(file: str, settings: Settings, wishes: Wishes) -> list[Seen] | str:
    """The pictures of an argument; of a clip only its name: which frames, the model decides."""
    if not attaching.is_clip(file):
        return attaching.pictures_of(file, settings, recursive=wishes.recursive)
    list(sources.find(file))  # raises if there is none
    return file


def _clip(file: str, session: Session) -> list[Seen]:
    return [attaching.clip(file, session.settings, session.engine)]


def _recall(
    name: str, events: Sequence[Event], settings: Settings
) -> tuple[Conversation, Settings]:
    """The chat from the disk, and the settings with the model that answered in it."""
    with output.status("reading the pictures again"):
        recalled = remembering.recall(events, settings)
    for line in recalled.lost:
        output.warn(line)
    if recalled.model and settings.origins["model"] != "--model":
        settings = config.changed(settings, "model", recalled.model, f"chat {name}")
    talk = recalled.conversation
    if settings.origins["system"] == "--system":
        talk = replace(talk, system=settings.system)
    output.note(f"going on with {name}: {talk.size}")
    _show_last(talk)
    return talk, settings


def _show_last(talk: Conversation) -> None:
    """Where the conversation stands, on stderr: these are no new answers."""
    if not talk.turns:
        return
    last = talk.turns[-1]
    output.aside(f"> {_short(last.words)}", "dim")
    if last.answer:
        stopped = " [stopped here]" if last.ending == "cut" else ""
        output.aside(f"{_short(last.answer)}{stopped}", "dim")
    else:
        output.note("that question has no answer yet; /regen asks it again")


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"…{text[-_SHOWN_CHARACTERS:]}"
