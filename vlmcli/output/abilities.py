"""What the terminal of stdout can show, as far as the environment tells: nothing is asked of it."""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from vlmcli.output.terminal import console, encoding

# In which words of the environment a terminal that draws pictures names itself; "" is any value.
_KITTY, _ITERM, _SIXEL = "kitty graphics", "iTerm2 pictures", "sixel"
_NAMES = (
    (_KITTY, "TERM", ("xterm-kitty", "xterm-ghostty")),
    (_KITTY, "TERM_PROGRAM", ("ghostty",)),
    (_KITTY, "KITTY_WINDOW_ID", ("",)),
    (_KITTY, "KONSOLE_VERSION", ("",)),
    (_ITERM, "TERM_PROGRAM", ("iTerm.app", "WezTerm", "mintty")),
    (_ITERM, "LC_TERMINAL", ("iTerm2",)),
    (_SIXEL, "TERM", ("foot", "foot-direct", "mlterm", "contour", "yaft-256color")),
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
    colours, why_plain = "", ""
    if not is_terminal:
        why_plain = "stdout is not a terminal"
    elif screen is None:
        why_plain = f"TERM is {term}" if charset.lower().startswith("utf") else f"only {charset}"
    elif environment.get("NO_COLOR"):
        why_plain = "NO_COLOR is set"
    else:
        colours = screen.color_system or ""
    return Abilities(
        is_terminal,
        size.columns,
        size.lines,
        charset,
        term,
        colours,
        pictures=_pictures(environment, "half blocks" if colours else "") if screen else "",
        why_plain=why_plain,
    )


def _pictures(environment: Mapping[str, str], otherwise: str) -> str:
    # Within these the outer terminal's variables are still seen, and its pictures are not.
    if "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux")):
        return otherwise
    for protocol, variable, values in _NAMES:
        value = environment.get(variable)
        if value is not None and (value in values or "" in values):
            return protocol
    return otherwise
