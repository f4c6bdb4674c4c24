"""`vlm prompts path`: where saved prompts are."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli import prompts
from vlmcli.commands.options import app_of


def path(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", autocompletion=prompts.completions, help="Of this one [default: all]."
        ),
    ] = None,
    *,
    flags: Mapping[str, object],
) -> None:
    """Print the folder of the saved prompts, or the file of one.

    "$EDITOR" "$(vlm prompts path NAME)" changes one.

    Example: vlm prompts path receipt
    """
    from vlmcli import output

    output.file_line(str(prompts.folder() if name is None else prompts.find(name)))


app = app_of(path, settings=())
