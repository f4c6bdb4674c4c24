"""`vlm caption`: one caption for each picture."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli import prompts, wording
from vlmcli.commands.options import DryRun, Recursive, Template, Variables, app_of
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
        str | None,
        typer.Option(
            help=f"{', '.join(CAPTION_STYLES)} [default: short].",
            autocompletion=lambda: [*CAPTION_STYLES],
        ),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("-p", "--prompt", help="Your own words instead of a style.")
    ] = None,
    template: Template = None,
    variables: Variables = None,
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

    if template is not None and style is not None:
        raise UsageError("-T replaces --style", hint="give one of the two")
    words = words_of(style, prompts.asked(prompt, template, variables or ()))
    settings = config.load(flags)

    from vlmcli.commands.captioning import Job

    job = Job(settings, words, recursive=recursive, with_filename=with_filename, dry_run=dry_run)
    if failed := job.run(files):
        raise typer.Exit(failed)


def words_of(style: str | None, prompt: str | None) -> Text:
    """What to ask about each picture: a style's words (short, if nothing is said), or one's own."""
    if prompt is None:
        style = style or "short"
        if style not in CAPTION_STYLES:
            raise UsageError(f"--style: no such style: {style}", hint=", ".join(CAPTION_STYLES))
        return wording.caption(style)
    if style is not None:
        raise UsageError("-p replaces --style", hint="give one of the two")
    if not prompt.strip():
        raise UsageError("the prompt is empty", hint='for example: -p "Name the plants."')
    return Text(prompt)


app = app_of(caption)
