"""The options of a command that asks about picture after picture: where they come from, and where
the answers go."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from vlmcli.bulk import kinds
from vlmcli.errors import UsageError, shown
from vlmcli.inputs.arguments import Named

Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Answers into FILE (.jsonl, .csv, .parquet); run again, it goes on.",
    ),
]
Sidecar = Annotated[
    str | None,
    typer.Option(
        "--sidecar",
        metavar="KIND",
        help="Answers beside each picture: txt, json or xmp.",
        autocompletion=lambda: [*kinds.SIDECARS],
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Write sidecars that are there anew.")]
Files0From = Annotated[
    str | None,
    typer.Option(
        "--files0-from", metavar="FILE", help="Names that end with NUL, in FILE or - (stdin)."
    ),
]
FilesFrom = Annotated[
    str | None, typer.Option("--files-from", metavar="FILE", help="A name a line, in FILE or -.")
]
BatchSize = Annotated[
    str | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Most pictures that the model looks at together; 1 is exact [default: auto].",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the answers go: into a file, beside the pictures, or both."""

    file: str | None
    sidecar: kinds.SidecarKind | None
    force: bool


def target_of(file: str | None, sidecar: str | None, *, force: bool) -> Target | None:
    """Where the answers go; None to stdout. Raises UsageError."""
    if file is not None:
        kinds.of_file(file)
    if force and sidecar is None:
        raise UsageError("--force is for --sidecar", hint="-o adds what is lacking")
    if file is None and sidecar is None:
        return None
    return Target(file, kinds.of_sidecar(sidecar) if sidecar is not None else None, force)


def batch_of(size: str | None) -> int | None:
    """How many pictures together; None for as many as is best. Raises UsageError."""
    if size is None or size == "auto":
        return None
    if not re.fullmatch("[1-9][0-9]{0,5}", size):
        hint = "a whole number from 1, or auto"
        raise UsageError(f"--batch-size: {shown(size)} is no size", hint=hint)
    return int(size)


def named_by(
    files: Sequence[str], files0_from: str | None, files_from: str | None, *, recursive: bool
) -> Named:
    """What was named, in one of three ways. Raises UsageError."""
    ways = {"--files0-from": files0_from, "--files-from": files_from, "FILES": files or None}
    given = [way for way, value in ways.items() if value is not None]
    if not given:
        hint = "name a picture or a folder, or give a list with --files0-from"
        raise UsageError("Missing argument 'FILES...'", hint=hint)
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} both name pictures", hint="give one of them")
    end = b"\0" if files_from is None else b"\n"
    return Named(files, files_from if files0_from is None else files0_from, end, recursive)
