"""`vlm prompts rm`: saved prompts out of the way."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli import prompts
from vlmcli.commands.options import app_of


def rm(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", autocompletion=prompts.completions)
    ],
    *,
    flags: Mapping[str, object],
) -> None:
    """Remove saved prompts; if one of the names is wrong, none.

    Example: vlm prompts rm receipt
    """
    prompts.remove(names)


app = app_of(rm, settings=())
