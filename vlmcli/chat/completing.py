"""What Tab offers for a line: commands, their settings and values, models, chats, files."""

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vlmcli.chat import store, tuning
from vlmcli.chat.slash import COMMANDS, Completed
from vlmcli.formats import CLIP_SUFFIXES, SUFFIXES
from vlmcli.models import names
from vlmcli.settings import TABLE

_SEEN = SUFFIXES | CLIP_SUFFIXES
_UNSAFE = re.compile(r"""([\s'"\\()`])""")
_LAST_WORD = re.compile(r"""(?:\\.|[^\s\\])*$""")
_MOST_FILES = 500


@dataclass(frozen=True, slots=True)
class Offer:
    """`text` in the place of the last `replaced` characters; `shown` is how a list has it."""

    text: str
    replaced: int
    shown: str = ""


def offers(line: str) -> list[Offer]:
    """What can come where a line ends so."""
    if line.startswith("/") and " " not in line:
        takes = {name: " " if command.takes else "" for name, command in COMMANDS.items()}
        found = [n for n in COMMANDS if n.startswith(line)]
        return [Offer(f"{n}{takes[n]}", len(line), n) for n in found] or list(_files(line, _SEEN))
    command, _, argument = line.partition(" ")
    completed: Completed = COMMANDS[command].completed if command in COMMANDS else "seen"
    return list(_OFFERS[completed](argument.lstrip() if command in COMMANDS else line))


def _nothing(argument: str) -> Iterator[Offer]:
    return iter(())


def _seen(argument: str) -> Iterator[Offer]:
    return _files(argument, _SEEN)


def _setting(argument: str) -> Iterator[Offer]:
    key, blank, value = argument.partition(" ")
    if not blank:
        found = (name for name in tuning.SETTABLE if name.startswith(key))
        yield from (Offer(f"{name} ", len(key), name) for name in found)
    elif key in TABLE and TABLE[key].metadata["kind"] is bool:
        yield from _words(value.lstrip(), ("yes", "no", tuning.BACK))


def _model(argument: str) -> Iterator[Offer]:
    yield from _words(argument, names.completions(argument))
    yield from _files(argument, ())


def _chat(argument: str) -> Iterator[Offer]:
    yield from _words(argument, [path.stem for path in store.paths()])
    yield from _files(argument, {".json"})


def _any_file(argument: str) -> Iterator[Offer]:
    return _files(argument, {".json", ".md"})


def _words(typed: str, known: Collection[str]) -> Iterator[Offer]:
    return (Offer(word, len(typed)) for word in known if word.startswith(typed))


def _files(line: str, suffixes: Collection[str]) -> Iterator[Offer]:
    """Folders, and files with one of the suffixes, that the last word of the line begins."""
    quoted = re.search(r"""(?:^|\s)(['"])([^'"]*)$""", line)
    found = _LAST_WORD.search(line)
    typed = quoted[2] if quoted else found[0] if found else ""
    if not typed:
        return
    plain = typed if quoted else re.sub(r"\\(.)", r"\1", typed)
    folder, _, start = plain.rpartition("/")
    folder += "/" if "/" in plain else ""
    for name in _names_in(folder, start, suffixes):
        text = f"{folder}{name}"
        yield Offer(text if quoted else _UNSAFE.sub(r"\\\1", text), len(typed), name)


def _names_in(folder: str, start: str, suffixes: Collection[str]) -> list[str]:
    found = []
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:  # noqa: PTH111
            for entry in entries:
                if not entry.name.startswith(start) or entry.name[0] == "." != start[:1]:
                    continue
                if entry.is_dir():
                    found.append(f"{entry.name}/")
                elif Path(entry.name).suffix.lower() in suffixes:
                    found.append(entry.name)
    except OSError:  # no folder, or not to be looked into: nothing to offer
        return []
    return sorted(found)[:_MOST_FILES]


_OFFERS: Mapping[Completed, Callable[[str], Iterator[Offer]]] = {
    "": _nothing,
    "seen": _seen,
    "setting": _setting,
    "model": _model,
    "chat": _chat,
    "file": _any_file,
}
