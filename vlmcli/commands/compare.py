"""`vlm compare`: one question to several models."""

from collections.abc import Mapping
from typing import Annotated

import typer

from vlmcli import prompts
from vlmcli.commands.ask import files_and_question
from vlmcli.commands.options import Attached, Question, Recursive, Template, Variables, app_of
from vlmcli.errors import UsageError
from vlmcli.models import names
from vlmcli.settings import TABLE

EXAMPLE = 'for example: vlm compare -m smolvlm -m qwen3-vl chart.png "highest bar?"'


def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar='FILES... "QUESTION"',
            help="As for ask: pictures that are seen together; the question comes last.",
        ),
    ] = None,
    *,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            metavar="NAME",
            help="A model, as for ask; give two or more.",
            autocompletion=names.completions,
        ),
    ] = None,
    image: Attached = None,
    prompt: Question = None,
    template: Template = None,
    variables: Variables = None,
    each: Annotated[
        bool, typer.Option("--each", help="Ask about each picture for itself.")
    ] = False,
    recursive: Recursive = False,
    flags: Mapping[str, object],
) -> None:
    """Ask several models the same, and show their answers side by side with time and memory.

    Each model has a process of its own, one after the other. The memory is the most that this
    process had at once, Python and all libraries included; on a GPU, the most in tensors there too.
    The time to load is with what had to be downloaded; the first answer is with all that a
    first one costs. In a pipe: a line a model, with tabs: the file if --each, the model, the
    answer, seconds to the first token, seconds, tokens a second, seconds to load, bytes of memory,
    bytes on the GPU, tokens of the pictures.

    Example: vlm compare -m smolvlm -m qwen3-vl chart.png "highest bar?"
    """
    from vlmcli import config

    if len(models or ()) < 2:
        raise UsageError("two models or more are compared", hint=EXAMPLE)
    settings = [config.load({**flags, "model": model}) for model in models or ()]
    prompt = prompts.asked(prompt, template, variables or ())
    files, question = files_and_question(arguments or [], image or [], prompt, EXAMPLE)

    from vlmcli.commands.comparing import Comparison

    comparison = Comparison(settings, question, each=each, recursive=recursive)
    if code := comparison.run(files):
        raise typer.Exit(code)


app = app_of(compare, settings=TABLE.keys() - {"model", "revision", "stream"})
