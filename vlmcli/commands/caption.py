"""`vlm caption`: one caption for each picture."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli import wording
from vlmcli.commands.options import DryRun, Recursive, app_of
from vlmcli.errors import UsageError
from vlmcli.messages import Text
from vlmcli.wording import CAPTION_STYLES


def caption(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILES...", help="Image, folder, glob, PDF, URL, - or clip:."),
    ],
    *,
    style: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(CAPTION_STYLES)}.", autocompletion=lambda: [*CAPTION_STYLES]
        ),
    ] = "short",
    prompt: Annotated[
        str | None, typer.Option("-p", "--prompt", help="Your own words instead of a style.")
    ] = None,
    recursive: Recursive = False,
    with_filename: Annotated[
        bool | None,
        typer.Option("-H/--no-filename", "--with-filename", help="The path before each caption."),
    ] = None,
    dry_run: DryRun = False,
    flags: Mapping[str, object],
) -> None:
    """Caption each picture; several give a line each: path, tab, caption.

    A picture that cannot be read is reported and passed over, and the exit code is 3.

    Example: vlm caption photo.jpg
    """
    from vlmcli import config

    if style not in CAPTION_STYLES:
        raise UsageError(f"--style: no such style: {style}", hint=f"{', '.join(CAPTION_STYLES)}")
    settings = config.load(flags)

    from vlmcli.commands.captioning import Job

    words = wording.caption(style) if prompt is None else Text(prompt)
    job = Job(settings, words, recursive=recursive, with_filename=with_filename, dry_run=dry_run)
    if failed := job.run(files):
        raise typer.Exit(failed)


app = app_of(caption)
