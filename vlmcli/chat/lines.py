"""A line that was typed -> its words, and what it names to look at.

Paths as they are typed (My\\ cat.png, "My cat.png", ~/cat.png, scan.pdf#page=2), as terminals drop
them (quoted, escaped, plain, file://), URLs and clip:. What stands in `backquotes` is only words.
"""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vlmcli.formats import CLIP_SUFFIXES, HEAD_BYTES, SUFFIXES, is_picture, seems

QUOTES = '"""'
"""Around words of several lines."""

_KNOWN = SUFFIXES | CLIP_SUFFIXES
_MEANT = _KNOWN - {".ts", ".mts"}  # TypeScript is talked about more often than it is missing
_WORD = re.compile(r"(?:\\.|\S)+", re.DOTALL)
_URL = re.compile(r"https?://\S", re.IGNORECASE)
_PATH = re.compile(r"~?[/\\]|\.\.?[/\\]|[A-Za-z]:[/\\]")
_PUNCTUATION = "?!.,;:)]}>'\"…"
_PAGE = re.compile(r"#page=[^#]*$")
_BETWEEN = re.compile(r"[\s,;]*")
_LONGEST_PATH_WORDS = 12


@dataclass(frozen=True, slots=True)
class Named:
    """The stretch of a line, from `start` to before `end`, that names `argument`."""

    start: int
    end: int
    argument: str


@dataclass(frozen=True, slots=True)
class Line:
    """The words of a line, and the arguments in it, as `sources.find` takes them."""

    words: str
    arguments: tuple[str, ...] = ()


def read(text: str) -> Line:
    """What a line says. A path before or after the words is no part of them; within, its name is.

    Names what is missing too, if it can only be meant as a file: reading it then says so, and no
    model answers about a picture that it has not seen.
    """
    named = found_in(text)
    return Line(_words(text, named), tuple(one.argument for one in named))


def is_open(text: str) -> bool:
    """Whether the text begins with three quotes that are not closed yet."""
    start = text.lstrip()
    return start.startswith(QUOTES) and QUOTES not in start[len(QUOTES) :]


def unquoted(text: str) -> str:
    """The text without the three quotes around it."""
    bare = text.strip()
    if not bare.startswith(QUOTES):
        return bare
    return bare.removeprefix(QUOTES).removesuffix(QUOTES).strip()


def found_in(text: str) -> list[Named]:
    """Everything in the text that names something to look at, in order."""
    whole = text.strip()
    if whole and (argument := _whole(whole)):
        start = text.index(whole)
        return [Named(start, start + len(whole), argument)]
    return list(_scan(text))


def _whole(text: str) -> str | None:
    """What a line of nothing else names: a folder, or a path with spaces that nobody escaped."""
    is_path = _PATH.match(text) is not None
    if "\n" in text or not (is_path or _is_file(text)):
        return None
    return text if _looks_seen(text) or (is_path and os.path.isdir(_home(text))) else None  # noqa: PTH112


def _scan(text: str) -> Iterator[Named]:
    at = 0
    while at < len(text):
        character = text[at]
        if character == "`":
            at = _after_backquotes(text, at)
        elif character.isspace() or character in "([{<":
            at += 1
        elif character in "'\"" and (quoted := _quoted(text, at)):
            yield quoted
            at = quoted.end
        elif named := _plain(text, at):
            yield named
            at = named.end
        else:
            word = _WORD.match(text, at)
            at = word.end() if word and character not in "'\"" else at + 1


def _after_backquotes(text: str, at: int) -> int:
    ticks = re.compile("`+").match(text, at)
    assert ticks is not None
    end = text.find(ticks[0], ticks.end())
    return ticks.end() if end < 0 else end + len(ticks[0])


def _quoted(text: str, at: int) -> Named | None:
    end = text.find(text[at], at + 1)
    if end < 0 or not (argument := _meaning(text[at + 1 : end])):
        return None
    return Named(at, end + 1, argument)


def _plain(text: str, at: int) -> Named | None:
    word = _WORD.match(text, at)
    if word is None:
        return None
    for length in dict.fromkeys((len(word[0]), len(word[0].rstrip(_PUNCTUATION)))):
        candidate = word[0][:length]
        is_url = _URL.match(candidate) is not None
        if is_url and length == len(word[0]):
            candidate = _bare_url(candidate)
        if candidate and (argument := _meaning(candidate, must_exist=not is_url)):
            return Named(at, at + len(candidate), argument)
    if spaced := _with_spaces(text, at):
        return spaced
    candidate = word[0].rstrip(_PUNCTUATION)
    if argument := _meaning(candidate):  # missing, and surely meant
        return Named(at, at + len(candidate), argument)
    return None


def _bare_url(url: str) -> str:
    """Without the punctuation of the sentence around it."""
    while url[-1] in _PUNCTUATION and not (url[-1] == ")" and "(" in url):
        url = url[:-1]
    return url


def _with_spaces(text: str, at: int) -> Named | None:
    """The longest path of an existing file that starts here, spaces and all."""
    if not _PATH.match(text, at):
        return None
    ends = [word.end() for word in _WORD.finditer(text, at)][1:_LONGEST_PATH_WORDS]
    for end in reversed(ends):
        for stop in (end, at + len(text[at:end].rstrip(_PUNCTUATION))):
            if "\n" not in text[at:stop] and _looks_seen(text[at:stop]):
                return Named(at, stop, text[at:stop])
    return None


def _meaning(word: str, *, must_exist: bool = False) -> str | None:
    """The argument that a word is, or None if it is only a word."""
    if word == "clip:" or word.startswith("data:image/") or _URL.match(word):
        return word
    if word[:7].lower() == "file://":
        return unquote(urlsplit(word).path) or None
    plain = re.sub(r"\\(.)", r"\1", word) if os.name == "posix" else word
    for path in dict.fromkeys((word, plain)):
        if _looks_seen(path):
            return path
    if glob.has_magic(plain) and _suffix(plain) in SUFFIXES:
        return plain if not must_exist or glob.glob(_home(plain)) else None  # noqa: PTH207
    stem = Path(_PAGE.sub("", plain)).stem
    is_meant = _suffix(plain) in _MEANT and any(c.isalnum() for c in stem)
    return plain if is_meant and not must_exist else None


def _looks_seen(path: str) -> bool:
    """Whether there is such a file, and it is a picture or a clip by its name or its content."""
    if not _is_file(path) and not _is_file(path := _PAGE.sub("", path)):
        return False
    if _suffix(path) in SUFFIXES:
        return True
    try:
        with open(_home(path), "rb") as file:  # noqa: PTH123 - as a Path, ~nobody raises
            head = file.read(HEAD_BYTES)
    except OSError:
        return False
    what = seems(head)
    return is_picture(head) or what == "a video" or (_suffix(path) in CLIP_SUFFIXES and not what)


def path_of(typed: str) -> str:
    """A path as it is, whichever way it was typed."""
    bare = typed[1:-1] if typed[:1] == typed[-1:] and typed[:1] in ("'", '"') else typed
    return _home(re.sub(r"\\(.)", r"\1", bare) if os.name == "posix" and bare == typed else bare)


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(_home(path))  # noqa: PTH113 - false for a name that is too long
    except ValueError:  # a NUL
        return False


def _home(path: str) -> str:
    return os.path.expanduser(path)  # noqa: PTH111 - Path raises for an unknown user


def _suffix(path: str) -> str:
    return Path(_PAGE.sub("", path)).suffix.lower()


def _words(text: str, named: Sequence[Named]) -> str:
    starts, ends = [0, *(one.end for one in named)], [*(one.start for one in named), len(text)]
    gaps = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    if _all_outside(gaps):
        return " ".join(gap.strip().lstrip(",;:").rstrip(",;").strip() for gap in gaps).strip()
    names = [*(_name_in_words(one.argument) for one in named), ""]
    return "".join(gap + name for gap, name in zip(gaps, names, strict=True)).strip()


def _all_outside(gaps: Sequence[str]) -> bool:
    """Whether all that is named stands before the words, or behind the end of a sentence.

    `gaps` is what stands before, between and behind.
    """
    worded = [number for number, gap in enumerate(gaps) if not _BETWEEN.fullmatch(gap)]
    if len(worded) != 1:
        return not worded
    words = gaps[worded[0]]
    is_last = worded[0] == len(gaps) - 1
    return is_last or words.endswith("\n") or words.rstrip()[-1] in ".?!:…"


def _name_in_words(argument: str) -> str:
    if argument == "clip:":
        return "the clipboard"
    if argument.startswith("data:"):
        return "the picture"
    path = urlsplit(argument).path if _URL.match(argument) else argument
    return _PAGE.sub("", path).rstrip("/").rpartition("/")[2] or argument
