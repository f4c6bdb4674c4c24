"""`vlm models alias`: short names."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of
from vlmcli.models import names


def alias(
    short: Annotated[
        str | None,
        typer.Argument(
            metavar="[SHORT", help="A short name.", autocompletion=names.alias_completions
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]]",
            help="What it stands for: owner/name[@revision], a folder, or a short name.",
            autocompletion=names.completions,
        ),
    ] = None,
    *,
    remove: Annotated[bool, typer.Option("--rm", help="Forget SHORT.")] = False,
    flags: Mapping[str, object],
) -> None:
    """List the short names of models, print what one stands for, or set one in config.toml.

    Yours come before those of the recommended models.

    Example: vlm models alias mine owner/name@v2
    """
    from vlmcli.management import naming

    if remove:
        naming.remove_alias(short, model)
    elif short is not None and model is not None:
        naming.set_alias(short, model)
    else:
        naming.tell_aliases(short, flags)


app = app_of(alias, settings=("json",))
