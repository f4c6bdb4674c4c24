"""`vlm models pull`: models into the cache."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of
from vlmcli.models import names


def pull(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...",
            help="owner/name[@revision], or a short name.",
            autocompletion=names.completions,
        ),
    ],
    *,
    update: Annotated[
        bool, typer.Option("--update", help="Ask the Hub for a newer commit, and fetch it.")
    ] = False,
    flags: Mapping[str, object],
) -> None:
    """Fetch models; prints the name, the commit and the folder of each.

    What is in the cache already is not asked for again, unless by --update.

    Example: vlm models pull smolvlm
    """
    from vlmcli import config

    settings = config.load(flags)

    from vlmcli.management import fetching

    if failed := fetching.pull_all(models, settings, update=update):
        raise typer.Exit(failed)


app = app_of(pull, settings=("revision", "offline", "allow_pickle", "trust_remote_code", "json"))
