"""`vlm models ls`: the models on this machine."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of


def ls(
    *,
    recommended: Annotated[
        bool,
        typer.Option("-a", "--recommended", help="Also the recommended ones that are not here."),
    ] = False,
    flags: Mapping[str, object],
) -> None:
    """List the models here: size, last use, revision, and whether each can answer here.

    They are those in the cache that all Hugging Face programs share. HERE says that a model fits
    into the memory that is free now, or fits tightly, or is too big; or what it lacks. A * marks
    the one that answers where no -m is given. In a pipe: a line a model, with tabs, no titles.

    Example: vlm models ls --recommended
    """
    from vlmcli import config

    settings = config.load(flags)

    from vlmcli.management import listing

    listing.show(settings, recommended=recommended)


app = app_of(ls, settings=("json",))
