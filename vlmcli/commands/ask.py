"""`vlm ask`: one question about one picture, or about several seen together."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from vlmcli import prompts
from vlmcli.commands.options import DryRun, Recursive, Template, Variables, app_of
from vlmcli.errors import UsageError, shown
from vlmcli.inputs.arguments import names_a_file

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
    image: Annotated[
        list[str] | None,
        typer.Option(
            "-i",
            "--image",
            "-a",
            "--attachment",
            help="A picture; repeatable; seen after the FILES.",
            metavar="FILE",
        ),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option("-p", "--prompt", help="The question; all arguments are then pictures."),
    ] = None,
    template: Template = None,
    variables: Variables = None,
    messages: Annotated[
        str | None,
        typer.Option(
            "--messages", metavar="FILE.json", help="A whole conversation as JSON; - is stdin."
        ),
    ] = None,
    recursive: Recursive = False,
    dry_run: DryRun = False,
    flags: Mapping[str, object],
) -> None:
    """Ask one question about one picture, or about several seen together.

    Example: vlm ask receipt.jpg "what is the total?"
    """
    from vlmcli import config

    settings = config.load(flags)
    prompt = prompts.asked(prompt, template, variables or ())
    if messages is None:
        files, question = files_and_question(arguments or [], image or [], prompt)
    elif arguments or image or prompt or recursive:
        raise UsageError(
            "--messages is the whole conversation",
            hint="leave out files, -i, -p, -T, -r and the question",
        )

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
    arguments: Sequence[str], attached: Sequence[str], prompt: str | None, example: str = EXAMPLE
) -> tuple[list[str], str]:
    """The pictures in order, and the question: `-p`, or else the last argument."""
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
    if not files:
        raise UsageError("no picture was given", hint=example)
    if not question.strip():
        raise UsageError("the question is empty", hint=example)
    return files, question


app = app_of(ask)
