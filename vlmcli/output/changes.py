"""Two texts on stdout: which lines of one are not in the other."""

import difflib
import sys

from vlmcli.output.terminal import styled, write
from vlmcli.output.text import clean

_STYLES = {"-": "red", "+": "green"}


def changes(was: str, now: str) -> None:
    """Print the lines that only one of two texts has, and those beside them, as diff -u does."""
    lines = difflib.unified_diff(clean(was).splitlines(), clean(now).splitlines(), n=1, lineterm="")
    for line in list(lines)[2:]:  # two name the files
        if line.startswith("@@"):
            continue
        write(sys.stdout, styled(sys.stdout, (f"{line}\n", _STYLES.get(line[0], "dim"))))
