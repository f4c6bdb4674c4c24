"""What a word of the command line is: something to look at, or a question."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmcli.formats import CLIP_SUFFIXES, SUFFIXES

SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_FILES = tuple(SUFFIXES | CLIP_SUFFIXES)


@dataclass(frozen=True, slots=True)
class Named:
    """What a command is to look at, one after the other: files, folders, …, or a list of them.

    `list_file` holds the list ("-": stdin), in which each name ends with `end`.
    """

    files: Sequence[str] = ()
    list_file: str | None = None
    end: bytes = b"\0"
    recursive: bool = False


def names_a_file(text: str) -> bool:
    """Whether an argument is, beyond doubt, something to look at."""
    if text in ("-", "clip:") or text.startswith("data:image/"):
        return True
    if not re.search(r"\s", text):
        name = text.lower().partition("#page=")[0]
        if name.startswith(("http://", "https://")) or name.endswith(_FILES):
            return True
    return names_what_exists(text)


def names_what_exists(text: str) -> bool:
    """Whether there is a file or a folder of this name."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a name, or with a NUL: words
        return False
