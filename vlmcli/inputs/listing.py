"""What a command is to look at, one after the other: nothing is listed before it is needed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from threading import Event, Thread

from vlmcli import sources
from vlmcli.errors import InputError, UsageError, shown
from vlmcli.inputs.arguments import Named
from vlmcli.output import Meter
from vlmcli.sources import Source

Found = tuple[str, Source | InputError]
"""The name of an input, and what is there or why it cannot be used."""

_CHUNK_BYTES = 1 << 16
_LONGEST_NAME = 1 << 20


def found(named: Named) -> Iterator[Found]:
    """Every input, in order. Raises UsageError, InputError if the list itself cannot be read."""
    names = named.files if named.list_file is None else _names_in(named.list_file, named.end)
    for name in names:
        try:
            for source in sources.find(name, recursive=named.recursive):
                yield getattr(source, "name", name), source
        except InputError as error:
            yield name, error


def _names_in(file: str, end: bytes) -> Iterator[str]:
    try:
        with nullcontext(sources.stdin()) if file == "-" else Path(file).open("rb") as names:
            rest = b""
            while chunk := names.read1(_CHUNK_BYTES):  # type: ignore[attr-defined]
                *whole, rest = (rest + chunk).split(end)
                if len(rest) > _LONGEST_NAME:
                    raise UsageError(
                        f"{shown(file)}: a name without end",
                        hint="--files0-from reads names that end with NUL, --files-from lines",
                    )
                yield from (os.fsdecode(name) for name in whole if name or end != b"\n")
            if rest:
                yield os.fsdecode(rest)
    except OSError as error:
        raise InputError(f"{shown(file)}: {(error.strerror or str(error)).lower()}") from error


@contextmanager
def counted(named: Named, meter: Meter) -> Iterator[None]:
    """Count the inputs on a thread, while they are worked through, for a meter that can be seen.

    Not those of a list on stdin, which can be read only once.
    """
    stop = Event()

    def count() -> None:
        total = 0
        for _ in found(named):
            if stop.is_set():
                return
            total += 1
        meter.expect(total)

    if not meter.visible or named.list_file == "-":
        yield
        return
    thread = Thread(target=count, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(1)
