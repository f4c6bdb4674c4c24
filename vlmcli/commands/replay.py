"""`vlm replay`: answers repeated from their records."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import app_of
from vlmcli.settings import UNASKED


def replay(
    records: Annotated[
        str, typer.Argument(metavar="RECORDS", help="A file of what --json printed; - is stdin.")
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILES...]",
            help="Where to look, by its content, for what is not where it was; folders too.",
        ),
    ] = None,
    *,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="DIR", help="Relative names start here [default: .]."),
    ] = None,
    diff: Annotated[
        bool | None,
        typer.Option("--diff/--no-diff", help="Show how texts differ [default: on a terminal]."),
    ] = None,
    flags: Mapping[str, object],
) -> None:
    """Repeat the answers of records, and say of each whether the text is the same.

    A line a record: the file, a tab, and "same" or "different". The model, its revision, the number
    format and all that changes an answer are those of the record, and every file must be what it
    was. -m, --device, --dtype, --quantize and --detail ask another model, or here what was asked
    there, or have it see otherwise. The exit code is 0 if all are the same, 1 if some differ.

    Example: vlm replay answer.json
    """
    from vlmcli import config

    settings = config.load(flags)

    from vlmcli.commands.places import Places
    from vlmcli.commands.replaying import Replay

    places = Places(root or "", tuple(files or ()))
    if code := Replay(settings, places, diff=diff).run(records):
        raise typer.Exit(code)


app = app_of(replay, UNASKED)
