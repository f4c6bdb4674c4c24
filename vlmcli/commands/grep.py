"""`vlm grep`: the pictures of which a statement is true, with the flags and exit codes of grep."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from vlmcli.commands.bulk_options import BatchSize, Files0From, FilesFrom, batch_of, named_by
from vlmcli.commands.options import Recursive, app_of
from vlmcli.errors import InputError, UsageError, shown
from vlmcli.inputs.arguments import names_a_file
from vlmcli.settings import UNASKED

EXAMPLE = 'for example: vlm grep "a dog" *.jpg'

SPELLING = {"model": ("-M", "--model"), "verbose": ("--verbose/--no-verbose",)}
"""-m and -v are grep's."""


def grep(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar='"STATEMENT" FILES...',
            help='What a picture may show ("a dog"), or a question ("is it dark?"); then the'
            " pictures, as for caption.",
        ),
    ] = None,
    *,
    statement: Annotated[
        list[str] | None,
        typer.Option(
            "-e",
            "--statement",
            "--regexp",
            metavar="STATEMENT",
            help="One of several, any of which may be true; all arguments are then pictures.",
        ),
    ] = None,
    statements_from: Annotated[
        str | None,
        typer.Option("-f", "--file", metavar="FILE", help="A statement on each line; - is stdin."),
    ] = None,
    invert: Annotated[
        bool, typer.Option("-v", "--invert-match", help="Those of which it is not true.")
    ] = False,
    count: Annotated[
        bool, typer.Option("-c", "--count", help="Only how many there are, in all.")
    ] = False,
    files_with: Annotated[
        bool,
        typer.Option(
            "-l", "--files-with-matches", help="A PDF once, whichever page it is true of."
        ),
    ] = False,
    files_without: Annotated[
        bool,
        typer.Option("-L", "--files-without-match", help="Files of no page of which it is true."),
    ] = False,
    most: Annotated[
        str | None,
        typer.Option(
            "-m", "--max-count", metavar="NUM", help="Stop after so many (-M is the model)."
        ),
    ] = None,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", "--silent", help="Print nothing; stop at the first.")
    ] = False,
    no_messages: Annotated[
        bool, typer.Option("-s", "--no-messages", help="Do not tell of files that are unreadable.")
    ] = False,
    null: Annotated[
        bool, typer.Option("-0", "-Z", "--null", help="A NUL after each name, for xargs -0.")
    ] = False,
    files0_from: Files0From = None,
    files_from: FilesFrom = None,
    recursive: Recursive = False,
    batch_size: BatchSize = None,
    threshold: Annotated[
        str,
        typer.Option(
            metavar="P",
            help="True from this probability of yes, against no [default: 0.5].",
            show_default=False,
        ),
    ] = "0.5",
    scores: Annotated[
        bool, typer.Option("--scores", help="The probability and a tab before each name.")
    ] = False,
    flags: Mapping[str, object],
) -> None:
    """Print the pictures of which a statement is true, by the model's own odds of yes and no.

    Exits with 0 if there are any, 1 if there are none, 2 and up on errors. With -r and no FILES,
    looks through this folder. --threshold 0 --scores prints the probabilities of all.

    Example: vlm grep "a person on a bicycle" -r photos
    """
    from vlmcli import config

    settings = config.load(flags).unasked()
    _only_once_stdin(statements_from, files0_from, files_from, *(arguments or []))
    statements, files = statements_and_files(arguments or [], statement or [], statements_from)
    from_list = files0_from is not None or files_from is not None
    if not files and not recursive and not from_list:
        raise UsageError("no picture was given", hint=f"{EXAMPLE}; - is stdin, -r this folder")
    here = [] if files or from_list else ["."]
    named = named_by(files or here, files0_from, files_from, recursive=recursive)
    if files_with and files_without:
        raise UsageError("-l and -L are opposites", hint="give one of the two")
    least, enough, batch = _threshold(threshold), _most(most), batch_of(batch_size)

    from vlmcli.commands.grepping import Job, Show, Unit, Wanted

    unit: Unit = "file" if files_with else "file without" if files_without else "picture"
    wanted = Wanted(statements, least, unit, invert=invert, most=enough)
    show = Show(quiet=quiet, count=count, scores=scores, null=null, messages=not no_messages)
    if code := Job(settings, wanted, show, batch).run(named):
        raise typer.Exit(code)


def statements_and_files(
    arguments: Sequence[str], given: Sequence[str], listed_in: str | None
) -> tuple[list[str], list[str]]:
    """The statements, and the pictures in order: without -e and -f the first argument is the
    statement."""
    statements, files = [*given], [*arguments]
    if listed_in is not None:
        statements += _lines(listed_in)
    elif not given:
        if not files:
            raise UsageError("no statement was given", hint=EXAMPLE)
        statements = [files.pop(0)]
        if names_a_file(statements[0]):
            raise UsageError(
                f"the statement comes first, and {shown(statements[0])} is a file",
                hint=f"or use -e; {EXAMPLE}",
            )
    if not all(statement.strip() for statement in statements):
        raise UsageError("the statement is empty", hint=EXAMPLE)
    return statements, files


def _only_once_stdin(*named: str | None) -> None:
    """Raises UsageError if stdin is to be two things."""
    if named.count("-") > 1:
        raise UsageError("- is named twice, and stdin can be read once", hint=EXAMPLE)


def _lines(file: str) -> list[str]:
    """The lines of a file of statements that are not blank."""
    from vlmcli import sources

    try:
        data = sources.stdin().read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise InputError(f"-f {shown(file)}: {reason}") from error
    lines = [line for line in data.decode(errors="surrogateescape").splitlines() if line.strip()]
    if not lines:
        raise UsageError(f"-f {shown(file)}: there is no statement in it", hint="one on each line")
    return lines


def _threshold(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold: {text!r} is not a probability", hint="from 0 to 1")
    return value


def _most(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        hint = f"in vlm grep -m is how many to find, as grep has it; the model is -M {shown(text)}"
        raise UsageError(f"-m: {text!r} is not a whole number", hint=hint)
    return int(text)


app = app_of(grep, UNASKED, SPELLING)
