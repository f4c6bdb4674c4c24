"""The completion scripts of the shells, made from the app; a copy stands in completions/.

python -m vlmcli.commands.completion FOLDER     writes them anew
"""

import sys
from pathlib import Path

from typer.completion import get_completion_script

# Shell -> the file name under which that shell, or its users, look for it.
FILES = {"bash": "vlm.bash", "zsh": "_vlm", "fish": "vlm.fish", "powershell": "vlm.ps1"}


def script(shell: str) -> str:
    """The script that makes `shell` ask vlm itself what can come next."""
    made: str = get_completion_script(prog_name="vlm", complete_var="_VLM_COMPLETE", shell=shell)
    return f"{made}\n"


def write(folder: Path) -> None:
    """Write the script of every shell into `folder`."""
    for shell, name in FILES.items():
        (folder / name).write_text(script(shell), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
