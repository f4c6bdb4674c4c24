"""`vlm models show`: everything about one model."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of
from vlmcli.models import names


def show(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="owner/name[@revision], a short name, a folder, or builtin.",
            autocompletion=names.completions,
        ),
    ],
    *,
    template: Annotated[
        bool, typer.Option("--template", help="Print the chat template, and nothing else.")
    ] = False,
    flags: Mapping[str, object],
) -> None:
    """Tell what a model is: parameters, memory, context, image tokens, licence, files.

    Reads what is here, and asks the Hub nothing. The tokens that a picture costs come last: only
    the model's own processor knows them, and it takes a few seconds to load.

    Example: vlm models show smolvlm
    """
    from vlmcli import config

    settings = config.load(flags)

    from vlmcli.management import telling

    if template:
        telling.tell_template(model)
    else:
        telling.tell(model, settings)


app = app_of(show, settings=("trust_remote_code", "json"))
