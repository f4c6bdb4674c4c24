"""The commands of a chat: `/image`, `/undo` and the others, each one function of a session."""

import difflib
import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vlmcli import answers, config, output
from vlmcli.chat import attaching, files, lines, remembering, store, tuning
from vlmcli.chat.conversation import Conversation
from vlmcli.chat.session import Session
from vlmcli.chat.store import Transcript
from vlmcli.errors import DeviceError, InputError, UsageError, shown
from vlmcli.messages import Chunk, Message, Sampling

Completed = Literal["", "seen", "setting", "model", "chat", "file"]


@dataclass(frozen=True, slots=True)
class Command:
    """`takes` is what its help calls its argument, `completed` is what Tab offers for that."""

    run: Callable[[Session, str], None]
    takes: str
    does: str
    completed: Completed = ""


def parse(text: str) -> tuple[Command, str] | None:
    """The command and the argument of a line, or None if it is none. Raises UsageError."""
    if not text.startswith("/"):
        return None
    typed, _, argument = text.partition(" ")
    if (command := COMMANDS.get(typed)) is not None:
        return command, argument.strip()
    if "/" in typed[1:] or lines.found_in(text):  # the path of a file
        return None
    near = difflib.get_close_matches(typed, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else "/help lists them"
    raise UsageError(f"no command is called {shown(typed)}", hint=hint)


# --- what is shown ---


def image(session: Session, argument: str) -> None:
    session.unseen = shown(argument)
    arguments = _arguments(argument, "/image photo.jpg")
    settings = session.settings
    session.stage([one for name in arguments for one in attaching.pictures_of(name, settings)])


def video(session: Session, argument: str) -> None:
    session.unseen = shown(argument)
    arguments = _arguments(argument, "/video clip.mp4")
    session.stage([attaching.clip(one, session.settings, session.engine) for one in arguments])


def _arguments(argument: str, example: str) -> list[str]:
    """What is named, however it is written; words that name nothing that is known, as they are."""
    if not argument:
        raise UsageError("what is to be shown?", hint=f"for example: {example}")
    found = lines.found_in(argument)
    if not found or lines.read(argument).words:
        return [re.sub(r"\\(.)", r"\1", argument.strip("'\""))]
    return [one.argument for one in found]


def images(session: Session, argument: str) -> None:
    talk = session.talk
    told = [
        f"  {attaching.described(one, session.cost(one))}"
        f" (turn {number}{', no longer seen' if number <= session.left_out else ''})"
        for number, turn in enumerate(talk.turns, 1)
        for one in turn.seen
    ]
    told += [
        f"  {attaching.described(one, session.cost(one))} (for the next question)"
        for one in talk.staged
    ]
    output.aside("\n".join(told) or "  nothing is attached")


# --- how it answers ---


def system(session: Session, argument: str) -> None:
    if argument:
        session.instruct(None if argument == tuning.BACK else lines.unquoted(argument))
    output.aside(f"  system: {session.system or 'none'}")


def set_(session: Session, argument: str) -> None:
    key, _, value = argument.partition(" ")
    if not key:
        width = max(map(len, tuning.SETTABLE))
        told = ((name, _value(session, name)) for name in tuning.SETTABLE)
        output.aside("\n".join(f"  {name:{width}}  {value}" for name, value in told))
        return
    name, value = tuning.name_of(key), value.strip()
    if value and name == "system":
        session.instruct(session.began.system if value == tuning.BACK else lines.unquoted(value))
    elif value:
        session.settings = tuning.changed(session.settings, session.began, name, value)
    output.aside(f"  {name}: {_value(session, name)}")


def _value(session: Session, name: str) -> str:
    if name == "system":
        return session.system or tuning.BACK
    return tuning.value_of(session.settings, name)


def model(session: Session, argument: str) -> None:
    if not argument:
        output.aside(f"  {session.engine.label}")
        return
    chosen = config.changed(session.settings, "model", argument, "/model")
    origins = {**chosen.origins, "revision": "default"}
    chosen = replace(chosen, revision=None, origins=origins)
    before = session.engine
    try:
        engine = answers.load(chosen)
    except DeviceError:
        # There may be room for one of the two: the old one comes back if the new one fails.
        session.engine = replace(before, generate=_gone, preview=None)
        del before
        gc.collect()
        try:
            engine = answers.load(chosen)
        except BaseException:
            session.engine = answers.load(session.settings)
            raise
    session.switch(chosen, engine)
    output.aside(f"  {engine.label}")


def _gone(conversation: Sequence[Message], sampling: Sampling) -> Iterator[Chunk]:
    raise AssertionError("a model that was taken from memory is asked")


# --- what was said ---


def regen(session: Session, argument: str) -> None:
    if session.settings.temperature == 0 and session.talk.turns:
        output.note("at temperature 0 the same question gets the same answer; /set temperature 0.7")
    session.ask_again()


def undo(session: Session, argument: str) -> None:
    output.aside(f"  taken back: {session.take_back()}")


def clear(session: Session, argument: str) -> None:
    kept = f"; it is kept as {session.kept.name}" if session.kept.name else ""
    session.start_over(Conversation(session.system), Transcript())
    session.begin()
    output.aside(f"  the conversation begins anew{kept}")


def save(session: Session, argument: str) -> None:
    _write(session, argument or f"vlm-chat-{session.kept.name}.json", (".json",))


def export(session: Session, argument: str) -> None:
    _write(session, argument or f"vlm-chat-{session.kept.name}.md", files.MARKDOWN + files.JSON)


def _write(session: Session, name: str, endings: tuple[str, ...]) -> None:
    if not session.talk.turns:
        raise UsageError("nothing was said yet")
    path = Path(lines.path_of(name))
    if not path.name.lower().endswith(endings):
        raise UsageError(f"{shown(name)}: which form?", hint=f"end it in {' or '.join(endings)}")
    if path.exists() and path.resolve() not in session.written:
        raise UsageError(f"{shown(name)} is there already", hint="take another name")
    files.write(session.talk, path)
    session.written.add(path.resolve())
    output.aside(f"  {session.talk.size} in {shown(str(path))}")


def load(session: Session, argument: str) -> None:
    if not argument:
        raise UsageError("/load what?", hint="a file that /save wrote, or a name from --list")
    path = Path(lines.path_of(argument))
    if path.is_file():
        talk, lost = files.read(path, session.settings, session.engine)
        session.start_over(talk, Transcript())
        session.begin()
        session.keep_all()
    elif argument == session.kept.name:
        raise UsageError(f"{argument} is this chat")
    else:
        try:
            found = store.find(argument)
        except UsageError as error:
            raise InputError(f"{shown(argument)}: no such file, and no such chat") from error
        kept, events = store.reopened(found)
        try:
            recalled = remembering.recall(events, session.settings)
        except BaseException:
            kept.close()
            raise
        talk, lost = recalled.conversation, recalled.lost
        session.start_over(talk, kept)
    for line in lost:
        output.warn(line)
    output.aside(f"  {talk.size}")


# --- the rest ---


def stats(session: Session, argument: str) -> None:
    if session.last is not None:
        output.stats(session.last, session.engine.label)
    talk, limit = session.talk, session.engine.context_tokens
    told = talk.size
    if (used := session.used_tokens()) is not None:
        told += f"; {used}{f' of {limit}' if limit else ''} tokens of context"
    if session.left_out:
        told += f"; no longer seen: up to turn {session.left_out}"
    output.aside(f"  {told}")


def help_(session: Session, argument: str) -> None:
    heads = {name: f"{name} {c.takes}".rstrip() for name, c in COMMANDS.items() if c.does}
    width = max(map(len, heads.values()))
    told = [f"  {heads[name]:{width}}  {COMMANDS[name].does}" for name in heads]
    output.aside("\n".join([*told, "", _KEYS]))


def leave(session: Session, argument: str) -> None:
    session.over = True


_KEYS = """\
  A path, a URL or clip: in a line is attached; a line of nothing else waits for the
  question. What stands in `backquotes` is only words.
  Alt-Enter   a new line; also between \"\"\" and \"\"\"
  Ctrl-G      write in $EDITOR          Tab      complete
  Ctrl-C      stop the answer           Ctrl-D   leave"""

COMMANDS: Mapping[str, Command] = {
    "/image": Command(image, "FILE…", "attach pictures: paths, URLs, folders, clip:", "seen"),
    "/video": Command(video, "FILE…", "attach clips", "seen"),
    "/images": Command(images, "", "what is attached, its sizes and its tokens"),
    "/system": Command(system, "TEXT", "the system message; - takes it away"),
    "/set": Command(
        set_, "KEY VALUE", "a setting, as the flag of its name; - is as before", "setting"
    ),
    "/model": Command(model, "NAME", "let another model answer from here on", "model"),
    "/regen": Command(regen, "", "answer the last question anew"),
    "/undo": Command(undo, "", "take back what is attached, or the last turn"),
    "/clear": Command(clear, "", "begin anew; what was said stays kept"),
    "/save": Command(
        save, "FILE.json", "write the conversation to a file that /load takes", "file"
    ),
    "/load": Command(load, "FILE or ID", "go on with a conversation", "chat"),
    "/export": Command(
        export, "FILE.md", "write it for people; .json is the form of --messages", "file"
    ),
    "/stats": Command(stats, "", "tokens and times of the last answer, and what the context holds"),
    "/help": Command(help_, "", "this"),
    "/exit": Command(leave, "", "leave; also /quit, /bye and Ctrl-D"),
    "/quit": Command(leave, "", ""),
    "/bye": Command(leave, "", ""),
}
