"""`vlm ask`: one question about one picture, or about several seen together."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from vlmcli import prompts
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
from vlmcli.commands.options import (
    Attached,
    DryRun,
    Question,
    Recursive,
    Template,
    Variables,
    app_of,
)
from vlmcli.errors import UsageError, shown
from vlmcli.inputs.arguments import names_a_file
from vlmcli.messages import Text

EXAMPLE = 'for example: vlm ask chart.png "highest bar?"'


def ask(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar='FILES... "QUESTION"',
            help="Pictures as for caption, in the order they are seen; the question comes last.",
        ),
    ] = None,
    *,
    image: Attached = None,
    prompt: Question = None,
    template: Template = None,
    variables: Variables = None,
    messages: Annotated[
        str | None,
        typer.Option(
            "--messages", metavar="FILE.json", help="A whole conversation as JSON; - is stdin."
        ),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Ask about each picture alone, as vlm caption does.")
    ] = False,
    output: Output = None,
    sidecar: Sidecar = None,
    force: Force = False,
    files0_from: Files0From = None,
    files_from: FilesFrom = None,
    batch_size: BatchSize = None,
    recursive: Recursive = False,
    dry_run: DryRun = False,
    flags: Mapping[str, object],
) -> None:
    """Ask one question about one picture, or about several seen together.

    Example: vlm ask receipt.jpg "what is the total?"

    Example: vlm ask -r receipts "what is the total?" --each -o totals.csv
    """
    from vlmcli import config

    target = target_of(output, sidecar, force=force)
    from_list = files0_from is not None or files_from is not None
    if not each and messages is None and (target or from_list or batch_size is not None):
        raise UsageError(
            "-o, --sidecar, --batch-size and lists are for an answer a picture", hint="add --each"
        )
    batch = batch_of(batch_size)
    settings = config.load(flags)
    prompt = prompts.asked(prompt, template, variables or ())
    if messages is None:
        files, question = files_and_question(
            arguments or [], image or [], prompt, from_list=from_list
        )
    elif arguments or image or prompt or recursive or each or target or from_list:
        raise UsageError(
            "--messages is the whole conversation",
            hint="leave out files, -i, -p, -T, -r, -o, --each and the question",
        )
    if each:
        from vlmcli.commands import keeping
        from vlmcli.commands.captioning import Job

        named = named_by(files, files0_from, files_from, recursive=recursive)
        job = Job(settings, Text(question), dry_run=dry_run, batch=batch)
        if failed := keeping.run_each(job, named, target):
            raise typer.Exit(failed)
        return

    from vlmcli import answers, backends
    from vlmcli.commands import asking

    if messages is None:
        conversation = asking.about(files, question, settings, recursive=recursive)
    else:
        conversation = asking.read_conversation(messages, settings)
    if dry_run:
        answers.dry_run(backends.read(settings), conversation, settings)
    else:
        answers.show(answers.load(settings), conversation, settings)


def files_and_question(
    arguments: Sequence[str],
    attached: Sequence[str],
    prompt: str | None,
    example: str = EXAMPLE,
    *,
    from_list: bool = False,
) -> tuple[list[str], str]:
    """The pictures in order, and the question: `-p`, or else the last argument.

    There has to be a picture unless they come `from_list`.
    """
    if prompt is not None:
        files, question = [*arguments, *attached], prompt
    elif arguments:
        files, question = [*arguments[:-1], *attached], arguments[-1]
    else:
        raise UsageError("no question was asked", hint=example)
    if prompt is None and names_a_file(question):
        raise UsageError(
            f"the question comes last, and {shown(question)} is none", hint=f"or use -p; {example}"
        )
    if not files and not from_list:
        raise UsageError("no picture was given", hint=example)
    if not question.strip():
        raise UsageError("the question is empty", hint=example)
    return files, question


app = app_of(ask)
