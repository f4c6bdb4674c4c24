"""`vlm prompts show`: one saved prompt."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli import prompts
from vlmcli.commands.options import app_of


def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", autocompletion=prompts.completions, help="Which.")
    ],
    *,
    flags: Mapping[str, object],
) -> None:
    """Print a saved prompt as it is, its variables not filled in.

    Example: vlm prompts show receipt
    """
    from vlmcli import config, output

    settings = config.load(flags)
    text = prompts.read(name)
    if settings.json:
        output.record({"name": name, "variables": prompts.variables(text), "text": text})
    else:
        output.plain(text)


app = app_of(show, settings=("json",))
