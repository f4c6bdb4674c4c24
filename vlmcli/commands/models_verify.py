"""`vlm models verify`: is what lies in the cache what was downloaded?"""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of
from vlmcli.models import names


def verify(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME[@REVISION]...]",
            help="owner/name or a short name; all models of the cache if none is given.",
            autocompletion=names.cached_completions,
        ),
    ] = None,
    *,
    mend: Annotated[
        bool, typer.Option("--mend/--no-mend", help="Fetch damaged files again, or only tell.")
    ] = True,
    flags: Mapping[str, object],
) -> None:
    """Check every byte of the models in the cache, and fetch damaged files again.

    Asks the Hub nothing unless something is to be mended. The exit code is 4 if something is
    damaged and was not mended.

    Example: vlm models verify smolvlm
    """
    from vlmcli import config

    settings = config.load(flags)

    from vlmcli.management import checking

    if failed := checking.check_all(models or [], settings, mend=mend):
        raise typer.Exit(failed)


app = app_of(verify, settings=("offline", "json"))
