"""A record as a line of JSON or a row of a table, and back; and where each ends in a file."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from vlmcli.output.text import as_json, clean

Record = Mapping[str, object]

COLUMNS: Mapping[str, type] = {
    "file": str,
    "text": str,
    "error": str,
    "reasoning": str,
    "finish_reason": str,
    "model": str,
    "revision": str,
    "prompt": str,
    "settings": dict,
    "sha256": str,
    "width": int,
    "height": int,
    "image_tokens": int,
    "prompt_tokens": int,
    "new_tokens": int,
    "seconds_to_first_token": float,
    "seconds": float,
    "device": str,
    "dtype": str,
    "version": str,
    "more": dict,  # all else that a record holds
}

_OF_OTHERS = {"start", "clips", "messages", "statement"}
"""In records of video, chat and grep, which are of more than one picture, or of no answer."""

_BEGINNING = b'{"file": "'
BOM = b"\xef\xbb\xbf"  # editors and spreadsheets put it in front
csv.field_size_limit(2**31 - 1)  # its own limit is shorter than a long answer


@dataclass(frozen=True, slots=True)
class Form:
    """How records stand in a file, one after the other, each with an end mark.

    `blocks` are the raw records of a file, and whether each is complete; only the last may not be.
    `read` gives None for a block that is no record of ours. `mend` gives what is to be kept of one
    that is not complete: all of it, with its end mark, or nothing; None if it is none of ours.
    """

    head: str
    write: Callable[[Record], str]
    blocks: Callable[[BinaryIO], Iterator[tuple[bytes, bool]]]
    read: Callable[[bytes], Record | None]
    mend: Callable[[bytes], bytes | None]


def is_ours(record: object) -> bool:
    """Whether it is what a bulk run writes: of one picture, an answer or a failure."""
    if not isinstance(record, dict) or not isinstance(record.get("file"), str):
        return False
    if record.keys() & _OF_OTHERS:
        return False
    answer = isinstance(record.get("text"), str) and isinstance(record.get("sha256"), str)
    return answer or isinstance(record.get("error"), str)


# JSON lines ------------------------------------------------------------------------------------


def _write_line(record: Record) -> str:
    return as_json(record, ascii_only=False) + "\n"


def _lines(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    return ((line, line.endswith(b"\n")) for line in file)


def _read_line(block: bytes) -> Record | None:
    try:
        record = json.loads(block.removeprefix(BOM))
    except (ValueError, RecursionError):
        return None
    return record if is_ours(record) else None


def _mend_line(block: bytes) -> bytes | None:
    if _read_line(block) is not None:
        return block + b"\n"  # an editor left out the last line break, or a kill did
    with suppress(ValueError, RecursionError):
        json.loads(block.removeprefix(BOM))
        return None  # it does not break off
    start = block.removeprefix(BOM)[: len(_BEGINNING)]
    return b"" if _BEGINNING.startswith(start) else None


# A table ---------------------------------------------------------------------------------------


def row_of(record: Record) -> dict[str, object]:
    """A record by column, None where it says nothing.

    What no table takes is left out of its texts (control characters) or told in another way: bytes
    of a file's name that are no UTF-8 as backslash escapes, and what has no column in `more`.
    """
    row: dict[str, object] = {}
    rest = {key: value for key, value in record.items() if key not in COLUMNS}
    for name, kind in COLUMNS.items():
        value = record.get(name) if name != "more" else rest or None
        if name == "file":
            value = str(value).encode("utf-8", "backslashreplace").decode()
        elif kind is dict and value is not None:
            value = json.dumps(value, ensure_ascii=False)
        row[name] = clean(value) if isinstance(value, str) and name != "file" else value
    return row


def record_of(row: Mapping[str, object]) -> Record | None:
    """The record that a row was made of; None if it is not ours."""
    record: dict[str, object] = {}
    try:
        for name, kind in COLUMNS.items():
            value = row[name]
            if value is None:
                continue
            record[name] = json.loads(str(value)) if kind is dict else kind(value)
        record |= dict(record.pop("more", {}))  # type: ignore[call-overload]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return record if is_ours(record) else None


def _write_row(record: Record) -> str:
    cells = ["" if value is None else str(value) for value in row_of(record).values()]
    return _as_csv(cells)


def _as_csv(cells: list[str]) -> str:
    text = io.StringIO()
    # A lone \r ends a row for most readers, and csv does not quote it for this end mark.
    lone = any("\r" in cell for cell in cells)
    csv.writer(
        text, lineterminator="\n", quoting=csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL
    ).writerow(cells)
    return text.getvalue()


def _rows(file: BinaryIO) -> Iterator[tuple[bytes, bool]]:
    """A line break within quotes is part of a row; a quote within them is doubled."""
    lines: list[bytes] = []
    quotes = 0
    for line in file:
        lines.append(line)
        quotes += line.count(b'"')
        if quotes % 2 == 0 and line.endswith(b"\n"):
            yield b"".join(lines), True
            lines, quotes = [], 0
    if lines:
        yield b"".join(lines), False


def _read_row(block: bytes) -> Record | None:
    try:
        (cells,) = csv.reader(io.StringIO(block.decode(), newline=""), strict=True)
    except (ValueError, csv.Error):
        return None
    if len(cells) != len(COLUMNS):
        return None
    row: dict[str, str | None] = {
        name: cell or None for name, cell in zip(COLUMNS, cells, strict=True)
    }
    if row["error"] is None:
        row["text"] = row["text"] or ""  # of an empty answer
    return record_of(row)


LINES = Form("", _write_line, _lines, _read_line, _mend_line)
ROWS = Form(_as_csv([*COLUMNS]), _write_row, _rows, _read_row, lambda block: b"")
