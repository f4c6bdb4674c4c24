"""`vlm chat`: a conversation about pictures."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli.commands.options import Recursive, app_of
from vlmcli.errors import UsageError
from vlmcli.settings import FORMS, TABLE


def chat(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILES...]",
            help="Pictures and clips that the first question is about: paths, URLs, folders, clip:",
        ),
    ] = None,
    *,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "-i", "--image", "-a", "--attachment", help="One more; repeatable.", metavar="FILE"
        ),
    ] = None,
    go_on: Annotated[
        bool, typer.Option("-c", "--continue", help="Go on with the last conversation.")
    ] = False,
    cid: Annotated[
        str | None,
        typer.Option("--cid", metavar="ID", help="Go on with this one; its first digits will do."),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the conversations that are kept.")
    ] = False,
    preview: Annotated[
        bool, typer.Option("--preview/--no-preview", help="Show pictures in the terminal.")
    ] = True,
    recursive: Recursive = False,
    flags: Mapping[str, object],
) -> None:
    """Talk about pictures; more can join at any turn.

    Type a question, a path, or /help. Without a terminal each line of stdin is a turn.

    Example: vlm chat chart.png
    """
    from vlmcli import config

    settings = config.load(flags).in_words()
    named = [*(files or []), *(image or [])]
    if list_ and (named or go_on or cid):
        raise UsageError("--list only lists", hint="leave out the rest")
    if cid == "":
        raise UsageError("--cid: the name is empty", hint="vlm chat --list shows them")

    if list_:
        from vlmcli.chat import listing

        listing.show(settings)
        return
    from vlmcli.chat import opening

    goes_on = cid if cid is not None else "" if go_on else None
    wishes = opening.Wishes(named, recursive, preview, goes_on)
    if failed := opening.run(settings, wishes):
        raise typer.Exit(failed)


app = app_of(chat, [name for name in TABLE if name not in FORMS])
