"""`vlm caption`: one caption for each picture."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli import prompts, wording
from vlmcli.commands.bulk_options import (
    BatchSize,
    Files0From,
    FilesFrom,
    Force,
    Output,
    Sidecar,
    batch_of,
    named_by,
    target_of,
)
from vlmcli.commands.options import DryRun, Recursive, Template, Variables, app_of
from vlmcli.errors import UsageError
from vlmcli.messages import Text
from vlmcli.wording import CAPTION_STYLES


def caption(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILES...", help="Image, folder, glob, PDF, URL, - or clip:."),
    ] = None,
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
    output: Output = None,
    sidecar: Sidecar = None,
    force: Force = False,
    files0_from: Files0From = None,
    files_from: FilesFrom = None,
    batch_size: BatchSize = None,
    dry_run: DryRun = False,
    flags: Mapping[str, object],
) -> None:
    """Caption each picture; several give a line each: path, tab, caption.

    A picture that cannot be read is reported and passed over, and the exit code is 3. With -o each
    answer is on the disk at once; the same command again skips what is done and retries the rest.
    Of many pictures the model looks at several together, which is faster; in 16 bits an answer may
    then differ by a word from that to the picture alone, which --batch-size 1 gives.

    Example: vlm caption photo.jpg

    Example: vlm caption -r photos -o captions.jsonl
    """
    from vlmcli import config

    if template is not None and style is not None:
        raise UsageError("-T replaces --style", hint="give one of the two")
    words = words_of(style, prompts.asked(prompt, template, variables or ()))
    target = target_of(output, sidecar, force=force)
    batch = batch_of(batch_size)
    named = named_by(files or [], files0_from, files_from, recursive=recursive)
    settings = config.load(flags)

    from vlmcli.commands import keeping
    from vlmcli.commands.captioning import Job

    job = Job(settings, words, with_filename=with_filename, dry_run=dry_run, batch=batch)
    if failed := keeping.run_each(job, named, target):
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
