"""`vlm prompts save`: a prompt under a name."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of
from vlmcli.errors import UsageError


def save(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, - _ . and +.")],
    text: Annotated[
        str | None, typer.Argument(metavar='["TEXT"]', help="The prompt; - reads stdin.")
    ] = None,
    *,
    file: Annotated[
        str | None, typer.Option("-f", "--file", metavar="FILE", help="Take the text from there.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace one of that name.")] = False,
    flags: Mapping[str, object],
) -> None:
    """Save a prompt under a name, for -T. $name in it is a variable, which -D fills in.

    The shell fills in variables of its own between double quotes: write '…'.

    Example: vlm prompts save receipt 'What is the total, in $currency?'
    """
    from pathlib import Path

    from vlmcli import prompts

    if (text is None) == (file is None):
        raise UsageError(
            "save what? give a TEXT, or -f FILE, or - for stdin",
            hint="for example: vlm prompts save plants 'Name the plants.'",
        )
    if "-" in (text, file):
        text = _stdin()
    elif file is not None:
        text = prompts.read_file(Path(file))
    assert text is not None
    prompts.save(name, text, force=force)


def _stdin() -> str:
    from vlmcli import prompts, sources

    data = sources.stdin().read(prompts.MOST_BYTES + 1)
    if len(data) > prompts.MOST_BYTES:
        raise UsageError(f"stdin: more than {prompts.MOST_BYTES} bytes are no prompt")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError("stdin: not a text in UTF-8") from error


app = app_of(save, settings=())
