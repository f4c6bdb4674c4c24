"""`vlm models default`: the model that answers where none is named."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of
from vlmcli.models import names


def default(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="owner/name[@revision], a short name, a folder, auto, or builtin.",
            autocompletion=names.completions,
        ),
    ] = None,
    *,
    unset: Annotated[
        bool, typer.Option("--unset", help="Take it out of config.toml: auto chooses again.")
    ] = False,
    flags: Mapping[str, object],
) -> None:
    """Print the model that answers where no -m is given, or set it in config.toml.

    Example: vlm models default smolvlm
    """
    from vlmcli.management import naming

    if unset:
        naming.unset_default(model)
    elif model is not None:
        naming.set_default(model)
    naming.tell_default(flags)


app = app_of(default, settings=("json",))
