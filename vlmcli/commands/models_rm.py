"""`vlm models rm`: models out of the cache."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of
from vlmcli.models import names


def rm(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME[@REVISION]...",
            help="owner/name with all its revisions, or one of them; short names too.",
            autocompletion=names.cached_completions,
        ),
    ],
    *,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    flags: Mapping[str, object],
) -> None:
    """Remove models from the cache, for all programs that share it; broken-off downloads too.

    Asks first, and prints what each one freed.

    Example: vlm models rm smolvlm
    """
    from vlmcli import config

    settings = config.load(flags)

    from vlmcli.management import removal

    removal.remove_all(models, settings, ask=not yes)


app = app_of(rm, settings=("json",))
