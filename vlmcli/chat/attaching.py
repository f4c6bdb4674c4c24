"""What is named in a chat -> pictures and clips, and what they are and cost in one line."""

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from vlmcli import messages, output, video
from vlmcli.backends import Engine
from vlmcli.chat.conversation import Seen
from vlmcli.errors import UsageError, shown
from vlmcli.formats import CLIP_SUFFIXES, HEAD_BYTES, is_picture, seems
from vlmcli.inputs import clips, pictures
from vlmcli.messages import Image, Video
from vlmcli.settings import Settings
from vlmcli.timecodes import clock


def looked_at(argument: str, settings: Settings, engine: Engine) -> list[Seen]:
    """The pictures, or else the clip, that an argument names. Raises InputError."""
    if is_clip(argument):
        return [clip(argument, settings, engine)]
    return pictures_of(argument, settings)


def pictures_of(argument: str, settings: Settings, *, recursive: bool = False) -> list[Seen]:
    """The pictures that an argument names. Raises InputError."""
    return [*pictures.read_all_to_keep([argument], settings, recursive=recursive)]


def is_clip(argument: str) -> bool:
    """Whether it can only be a clip: by what is in the file, or by the end of an address."""
    head = _head(argument)
    if head:
        return seems(head) == "a video" or (_suffix(argument) in CLIP_SUFFIXES and not seems(head))
    return _suffix(argument) in CLIP_SUFFIXES


def clip(argument: str, settings: Settings, engine: Engine) -> Video:
    """The frames of a clip that the model is made for. Raises InputError."""
    if is_picture(head := _head(argument)) and not video.moves(Path(_home(argument))):
        raise UsageError(f"{shown(argument)}: a picture", hint="/image takes it")
    budget = engine.budget()
    with clips.opened([argument], settings) as opened, output.status(f"looking through {argument}"):
        film = next(one for one in opened if not isinstance(one, Image))
        taken = video.take(film, (0.0, film.duration_s), video.usual(budget.frames, budget.fps))
    if taken.damaged_s is not None:
        output.warn(f"{shown(argument)} is damaged or cut short at {clock(taken.damaged_s)}")
    path = os.path.abspath(_home(argument)) if head else argument  # noqa: PTH100
    return replace(taken.video, name=path)


def place(seen: Seen) -> str:
    """What reads it again, from any folder."""
    return (seen.again if isinstance(seen, Image) else "") or seen.name


def is_same(one: Seen, other: Seen) -> bool:
    """Whether both are of one file, and the same is in it."""
    if isinstance(one, Image) and isinstance(other, Image):
        return (place(one), one.sha256) == (place(other), other.sha256)
    if isinstance(one, Video) and isinstance(other, Video):
        return (one.name, one.times_s) == (other.name, other.times_s)
    return False


def cost(seen: Seen, engine: Engine) -> int | None:
    """How many tokens of the context it takes; None if that cannot be told beforehand.

    Raises VlmError if the model does not take it.
    """
    if engine.preview is None:
        return None
    alone = engine.preview([messages.user("x", [seen])]).prompt_tokens
    return alone - engine.preview([messages.user("x")]).prompt_tokens


def described(seen: Seen, tokens: int | None) -> str:
    """One line about it: what it is called, how large it is, what it takes of the context."""
    facts = [f"{seen.width} x {seen.height}"]
    if isinstance(seen, Video):
        first, last = clock(seen.times_s[0]), clock(seen.times_s[-1])
        facts = [f"{len(seen.frames)} frames from {first} to {last}", *facts]
    if tokens:
        facts.append(f"{tokens} tokens")
    return f"{displayed(seen.name)}: {', '.join(facts)}"


def displayed(name: str) -> str:
    """A name as it is shown: that of a file from where we are, if it lies below."""
    here = f"{Path.cwd()}{os.sep}"
    return shown(name.removeprefix(here) if name != here else name)


def _head(argument: str) -> bytes:
    """The first bytes of a file; none of anything else."""
    try:
        with open(_home(argument), "rb") as file:  # noqa: PTH123 - as a Path, ~nobody raises
            return file.read(HEAD_BYTES)
    except (OSError, ValueError):
        return b""


def _suffix(argument: str) -> str:
    return Path(urlsplit(argument).path if "://" in argument else argument).suffix.lower()


def _home(argument: str) -> str:
    return os.path.expanduser(argument)  # noqa: PTH111 - Path raises for an unknown user
