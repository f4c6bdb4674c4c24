"""What the user sees. stdout is the answer and nothing else; all other lines go to stderr.

Nothing here keeps a stream: `sys.stdout` and `sys.stderr` are looked up at each call.
"""

import sys
from collections.abc import Mapping

from vlmcli.errors import VlmError
from vlmcli.messages import Done
from vlmcli.output.abilities import Abilities, abilities
from vlmcli.output.changes import changes
from vlmcli.output.downloads import downloads, size
from vlmcli.output.footer import Meter, progress, status
from vlmcli.output.pictures import show_picture, show_thumbnail
from vlmcli.output.report import Finding, State, report
from vlmcli.output.sides import Side, side_by_side
from vlmcli.output.streaming import DimPrinter, PlainPrinter, stream
from vlmcli.output.table import Column, ago, facts, row, table
from vlmcli.output.terminal import encoding, styled, write, write_path
from vlmcli.output.text import as_json, clean, fold

__all__ = [
    "Abilities",
    "Column",
    "Finding",
    "Meter",
    "Side",
    "State",
    "abilities",
    "ago",
    "aside",
    "caption_line",
    "changes",
    "clean",
    "document",
    "downloads",
    "error",
    "facts",
    "file_line",
    "note",
    "plain",
    "progress",
    "record",
    "report",
    "row",
    "show_picture",
    "show_thumbnail",
    "side_by_side",
    "size",
    "stats",
    "status",
    "stream",
    "table",
    "thoughts",
    "warn",
]


def plain(text: str) -> None:
    """Print a text on stdout as it is."""
    printer = PlainPrinter(sys.stdout)
    printer.add(clean(text))
    printer.finish()


def thoughts(text: str) -> None:
    """Print on stderr what a model thought before an answer that is printed whole."""
    printer = DimPrinter(sys.stderr)
    printer.add(clean(text))
    printer.finish()


def record(fields: Mapping[str, object]) -> None:
    """Print one JSON object on one line of stdout; at once, so that a killed run loses none."""
    _write_json(fields)


def document(fields: Mapping[str, object]) -> None:
    """Print one JSON object on stdout, indented for a person to read."""
    _write_json(fields, indent=2)


def caption_line(name: str, text: str) -> None:
    """Print a file's name, a tab and its caption on one line of stdout.

    Off a terminal the name keeps its bytes, so that a script can open the file.
    """
    if sys.stdout.isatty():
        write(sys.stdout, styled(sys.stdout, (fold(name), "cyan"), (f"\t{fold(text)}\n", "")))
    else:
        write_path(sys.stdout, name)
        write(sys.stdout, f"\t{fold(text)}\n")


def file_line(name: str, score: str = "", *, end: str = "\n") -> None:
    """Print a file's name on stdout, after its score and a tab if there is one, and then `end`.

    Off a terminal the name keeps its bytes, so that a script can open the file.
    """
    before = f"{score}\t" if score else ""
    if sys.stdout.isatty():
        write(sys.stdout, styled(sys.stdout, (before, ""), (fold(name), "cyan")) + end)
    else:
        write(sys.stdout, before)
        write_path(sys.stdout, name)
        write(sys.stdout, end)


def error(error: VlmError) -> None:
    """Say on one line of stderr what went wrong and what to do next."""
    _say("vlm:", "bold red", str(error))


def warn(text: str) -> None:
    """Say on one line of stderr what may not be what the user expects."""
    _say("vlm: warning:", "yellow", text)


def note(text: str) -> None:
    """Say something on one line of stderr that is good to know."""
    _say("vlm:", "dim", text, "dim")


def aside(text: str, style: str = "") -> None:
    """Say something of one line or more on stderr, where a mark before it would be in the way."""
    write(sys.stderr, styled(sys.stderr, (clean(text), style)) + "\n")


def stats(done: Done, label: str) -> None:
    """Say on stderr what an answer cost, and what took how long; `label` is the engine's."""
    kinds = {"image": done.image_tokens, "cached": done.cached_tokens or None}
    of_them = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count is not None)
    decode_s = done.seconds - done.seconds_to_first_token
    decoded = done.new_tokens - 1  # the first token is paid for by the time to the first token
    seen = f"features: {done.cached_features} of {done.features} from the cache"
    parts = [
        f"{done.prompt_tokens} prompt tokens{f' ({of_them})' if of_them else ''}",
        *([seen] if done.cached_features else []),
        f"first token {done.seconds_to_first_token:.2f} s",
        f"{done.new_tokens} tokens in {done.seconds:.2f} s",
        *([f"{decoded / decode_s:.1f} tok/s"] if decoded > 0 and decode_s > 0 else []),
        done.reason,
        *([f"{done.together} together"] if done.together > 1 else []),
    ]
    write(sys.stderr, fold(f"{label}: {', '.join(parts)}") + "\n")
    if done.phases:
        phases = {**done.phases, "first token": done.seconds_to_first_token, "decoding": decode_s}
        lasted = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in phases.items())
        write(sys.stderr, f"phases: {lasted}\n")


def _write_json(fields: Mapping[str, object], indent: int | None = None) -> None:
    # A backslash escape for what the encoding lacks would not be JSON.
    ascii_only = not encoding(sys.stdout).lower().startswith("utf")
    write(sys.stdout, as_json(fields, ascii_only=ascii_only, indent=indent) + "\n")


def _say(mark: str, style: str, text: str, text_style: str = "") -> None:
    write(sys.stderr, styled(sys.stderr, (mark, style), (" ", ""), (fold(text), text_style)) + "\n")
