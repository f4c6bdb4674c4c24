"""`vlm video`: what happens in a clip, with times."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from vlmcli import prompts, timecodes
from vlmcli.commands.options import OPTIONAL, DryRun, Template, Variables, app_of
from vlmcli.errors import UsageError
from vlmcli.inputs.arguments import SHEET_SUFFIXES, names_a_file, names_what_exists
from vlmcli.transcript import Form

EXAMPLE = 'for example: vlm video clip.mp4 "what happens?"'
_TIME = "TIME"
MOST_FRAMES = 1000
"""No model is made for more, and each takes up to 3 MB of memory."""


def video(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar='CLIPS... ["QUESTION"]',
            help="Video files, GIFs, URLs, - (stdin), and pictures beside them; then the question.",
        ),
    ] = None,
    *,
    prompt: Annotated[
        str | None,
        typer.Option("-p", "--prompt", help="The question; all arguments are then files."),
    ] = None,
    template: Template = None,
    variables: Variables = None,
    fps: Annotated[
        str | None, typer.Option("--fps", metavar="NUMBER", help="Frames a second.")
    ] = None,
    max_frames: Annotated[
        str | None,
        typer.Option(
            "--max-frames", metavar="N", help="Most frames of a clip [default: the model's own]."
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar=_TIME, help="Look from here on: 90, 1:30 or 0:01:30."),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar=_TIME, help="Look up to here.")
    ] = None,
    scenes: Annotated[
        bool, typer.Option("--scenes", help="Frames where the picture changes most, not evenly.")
    ] = False,
    every: Annotated[
        str | None,
        typer.Option("--every", metavar=_TIME, help="An answer for each 10s (or 1:00) of it."),
    ] = None,
    srt: Annotated[bool, typer.Option("--srt", help="Answers as SubRip subtitles.")] = False,
    vtt: Annotated[bool, typer.Option("--vtt", help="Answers as WebVTT subtitles.")] = False,
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write them there; goes on where it stopped."
        ),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option("--frames", metavar="DIR", help="Keep the frames that the model saw there."),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            "--sheet",
            metavar=f"{OPTIONAL}FILE]",
            help="Show the frames side by side: here, or in the picture FILE.",
        ),
    ] = None,
    dry_run: DryRun = False,
    flags: Mapping[str, object],
) -> None:
    """Describe a clip, or answer a question about it.

    Example: vlm video clip.mp4 "what happens after the door opens?" --start 1:10
    """
    from vlmcli import config

    settings = config.load(flags)
    prompt = prompts.asked(prompt, template, variables or ())
    files, question = files_and_question(arguments or [], prompt)
    if sheet == "" and (lost := next(filter(_is_to_be_made, files), None)):
        raise UsageError(f"{lost}: no such file", hint=f"for a sheet of that name, --sheet={lost}")
    if srt + vtt + settings.json > 1:
        raise UsageError("--srt, --vtt and --json are three forms", hint="take one")
    if output is not None and not (every or srt or vtt):
        raise UsageError(
            "-o is for subtitles and for --every", hint="a single answer goes there with > FILE"
        )
    wishes = {
        "fps": _number("--fps", fps, float),
        "max_frames": _number("--max-frames", max_frames, int),
        "start_s": _seconds("--start", start),
        "end_s": _seconds("--end", end),
        "every_s": _seconds("--every", every),
    }
    _check_range(wishes["start_s"], wishes["end_s"])
    if wishes["every_s"] == 0:
        raise UsageError("--every 0: windows have a length", hint="for example: --every 10s")

    from vlmcli.commands.watching import Show, Watch, Wishes

    form: Form = "srt" if srt else "vtt" if vtt else "jsonl" if settings.json else "text"
    show = Show(form, output, frames, sheet, dry_run=dry_run)
    Watch(settings, question, Wishes(**wishes, scenes=scenes), show).run(files)


def files_and_question(arguments: Sequence[str], prompt: str | None) -> tuple[list[str], str]:
    """The files in order, and the question: "" if nothing is asked."""
    if prompt is not None:
        if not prompt.strip():
            raise UsageError("the question is empty", hint=EXAMPLE)
        files, question = [*arguments], prompt
    elif len(arguments) > 1 and not names_a_file(arguments[-1]):
        files, question = [*arguments[:-1]], arguments[-1]
    else:
        files, question = [*arguments], ""
    if not files:
        raise UsageError("no clip was given", hint=EXAMPLE)
    return files, question.strip()


def _is_to_be_made(file: str) -> bool:
    """Whether an argument after a bare --sheet was meant as its file."""
    return file.lower().endswith(SHEET_SUFFIXES) and not names_what_exists(file)


def _number(flag: str, text: str | None, kind: type[int] | type[float]) -> Any:
    if text is None:
        return None
    try:
        value = kind(text)
    except ValueError:
        value = kind(0)
    if not 0 < value <= MOST_FRAMES:
        what = "a whole number from 1" if kind is int else "a number above 0"
        what = f"{what}, up to {MOST_FRAMES}"
        raise UsageError(f"{flag}: {text!r} is not {what}")
    return value


def _seconds(flag: str, text: str | None) -> float | None:
    try:
        return None if text is None else timecodes.parse(text)
    except ValueError as error:
        raise UsageError(
            f"{flag} {text}: {error}", hint="for example 90, 1:30 or 0:01:30"
        ) from error


def _check_range(start_s: float | None, end_s: float | None) -> None:
    if end_s is not None and end_s <= (start_s or 0):
        raise UsageError(
            f"--end {timecodes.clock(end_s)} is not after --start {timecodes.clock(start_s or 0)}",
            hint="swap them?",
        )


app = app_of(video)
