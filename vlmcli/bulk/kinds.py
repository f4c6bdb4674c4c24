"""The forms in which answers are kept, by the names that a command line has for them."""

from pathlib import Path
from typing import Literal

from vlmcli.errors import UsageError, shown

FileKind = Literal["jsonl", "csv", "parquet"]
SidecarKind = Literal["txt", "json", "xmp"]

FILES: tuple[FileKind, ...] = ("jsonl", "csv", "parquet")
SIDECARS: tuple[SidecarKind, ...] = ("txt", "json", "xmp")


def of_file(file: str) -> FileKind:
    """What the suffix of a file says that it holds. Raises UsageError for any other suffix."""
    for kind in FILES:
        if file.lower().endswith(f".{kind}") and Path(file).stem:
            return kind
    hint = "use .jsonl, .csv or .parquet"
    raise UsageError(f"-o {shown(file)}: the suffix names no form of it", hint=hint)


def of_sidecar(name: str) -> SidecarKind:
    """The kind of this name. Raises UsageError."""
    for kind in SIDECARS:
        if name == kind:
            return kind
    raise UsageError(f"--sidecar: no such kind: {shown(name)}", hint=", ".join(SIDECARS))
