"""What a terminal can show, as far as the environment tells: nothing is asked of it."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from vlmcli.output.terminal import console, encoding

KITTY, ITERM, SIXEL = "kitty graphics", "iTerm2 pictures", "sixel"
HALF_BLOCKS = "half blocks"

# In which words of the environment a terminal that draws pictures names itself; "" is any value.
_NAMES = (
    (KITTY, "TERM", ("xterm-kitty", "xterm-ghostty")),
    (KITTY, "TERM_PROGRAM", ("ghostty",)),
    (KITTY, "KITTY_WINDOW_ID", ("",)),
    (KITTY, "KONSOLE_VERSION", ("",)),
    (ITERM, "TERM_PROGRAM", ("iTerm.app", "WezTerm", "mintty")),
    (ITERM, "LC_TERMINAL", ("iTerm2",)),
    (SIXEL, "TERM", ("foot", "foot-direct", "mlterm", "contour", "yaft-256color")),
)


@dataclass(frozen=True, slots=True)
class Abilities:
    """Of stdout: whether it is a terminal, its size in characters, and what it can show.

    `colours` and `pictures` are empty where it shows none; `why_plain` says why there are none.
    """

    is_terminal: bool
    columns: int
    rows: int
    encoding: str
    term: str
    colours: str
    pictures: str
    why_plain: str

    @property
    def unicode(self) -> bool:
        return self.encoding.lower().startswith("utf")


def abilities(environment: Mapping[str, str] = os.environ) -> Abilities:
    """What stdout can show, now."""
    is_terminal, charset = sys.stdout.isatty(), encoding(sys.stdout)
    size = shutil.get_terminal_size()
    term = environment.get("TERM", "")
    screen = console(sys.stdout)
    shown, why_plain = colours(sys.stdout, environment), ""
    if not is_terminal:
        why_plain = "stdout is not a terminal"
    elif screen is None:
        why_plain = f"TERM is {term}" if charset.lower().startswith("utf") else f"only {charset}"
    elif environment.get("NO_COLOR"):
        why_plain = "NO_COLOR is set"
    return Abilities(
        is_terminal,
        size.columns,
        size.lines,
        charset,
        term,
        shown,
        pictures=pictures(sys.stdout, environment),
        why_plain=why_plain,
    )


def colours(file: TextIO, environment: Mapping[str, str] = os.environ) -> str:
    """rich's name for the colours that `file` shows: "truecolor", "256"; empty if it shows none."""
    screen = console(file)
    return "" if screen is None or environment.get("NO_COLOR") else screen.color_system or ""


def pictures(file: TextIO, environment: Mapping[str, str] = os.environ) -> str:
    """How `file` shows pictures: KITTY, ITERM, SIXEL or HALF_BLOCKS; empty if it cannot."""
    if console(file) is None:
        return ""
    return _protocol(environment) or (HALF_BLOCKS if colours(file, environment) else "")


def _protocol(environment: Mapping[str, str]) -> str:
    # Within these the outer terminal's variables are still seen, and its pictures are not.
    if "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux")):
        return ""
    for protocol, variable, values in _NAMES:
        value = environment.get(variable)
        if value is not None and (value in values or "" in values):
            return protocol
    return ""
