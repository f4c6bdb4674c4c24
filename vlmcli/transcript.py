"""Windows of a clip with their answers: as lines, subtitles or records, and in a file to go on.

Every entry ends with its own end mark: a newline, or a blank line in subtitles. So what follows the
last end mark of a file is an entry that was being written when the program was killed.
"""

import codecs
import errno
import io
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, TypeGuard

from vlmcli.errors import OutputError, UsageError, shown
from vlmcli.timecodes import clock, srt, vtt

Form = Literal["text", "srt", "vtt", "jsonl"]
Window = tuple[float, float]
"""Start and end, in seconds from the start of the clip."""

NAMES: Mapping[Form, str] = {
    "text": "lines with times",
    "srt": "SRT subtitles",
    "vtt": "WebVTT subtitles",
    "jsonl": "JSON lines",
}

_SIGNATURE = b"WEBVTT"
_TIMES = ("start", "end")  # in a record
_NO_TEXT = "-"  # FFmpeg drops a cue of SRT that has no text
_BEGINNINGS = {  # of an entry: its number if it has one, and its times
    "text": re.compile(rb"()([\d:.]+-[\d:.]+)(?:\t|\Z)"),
    "srt": re.compile(rb"(\d+)\n([\d:,]+ --> [\d:,]+)(?:\n|\Z)"),
    "vtt": re.compile(rb"()([\d:.]+ --> [\d:.]+)(?:\n|\Z)"),
}
_UNSAFE_IN_JSON = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")
_HINT = "name another file with -o, or remove this one"
_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP)  # what a pipe and some network drives say to it


@dataclass(frozen=True, slots=True)
class Cue:
    """What is said of one window; `fields` is its JSON record, with start, end and text at least.

    The text is cleaned: no control characters, nothing that UTF-8 cannot say.
    """

    start_s: float
    end_s: float
    text: str
    fields: Mapping[str, object] = field(default_factory=dict)


# --- how it looks ---


def head(form: Form) -> str:
    """What stands before the first entry."""
    return f"{_SIGNATURE.decode()}\n\n" if form == "vtt" else ""


def entry(form: Form, number: int, cue: Cue) -> str:
    """One window and its answer, end mark included; `number` counts from 1."""
    if form == "jsonl":
        return _as_json(cue.fields) + "\n"
    start = _start(form, number, (cue.start_s, cue.end_s))
    if form == "text":
        line = " ".join(_lines(cue.text)).replace("\t", " ")
        return f"{start}{line}\n"
    text = "\n".join(_lines(cue.text)).replace("-->", "→") or _NO_TEXT
    if form == "vtt":  # https://www.w3.org/TR/webvtt1/#webvtt-cue-text-span
        text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f"{start}{text}\n\n"


def _start(form: Form, number: int, window: Window) -> str:
    """All of an entry that comes before its text; not for JSON."""
    times = _times(form, *window)
    return {"text": f"{times}\t", "srt": f"{number}\n{times}\n"}.get(form, f"{times}\n")


def _times(form: Form, start_s: float, end_s: float) -> str:
    if form == "text":
        return f"{clock(start_s)}-{clock(end_s)}"
    show = srt if form == "srt" else vtt
    return f"{show(start_s)} --> {show(end_s)}"


def _lines(text: str) -> list[str]:
    """The lines that say anything: a blank one would end a cue, whichever line break made it."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _as_json(fields: Mapping[str, object]) -> str:
    """One line, for every reader's notion of a line, and safe to show on a terminal."""
    text = json.dumps(dict(fields), ensure_ascii=False)
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# --- the file ---


def append(path: Path, text: str) -> None:
    """Put `text` at the end of a file, on the disk for good; makes the file if there is none.

    All of it or nothing. Raises OutputError if it cannot be written, as when the disk is full.
    """
    try:
        with path.open("ab", buffering=0) as file:
            before = os.fstat(file.fileno()).st_size
            try:
                _write(file, text.encode("utf-8", "backslashreplace"))
            except OSError:
                with suppress(OSError):  # a pipe, a device
                    file.truncate(before)
                raise
    except OSError as error:
        message = f"{shown(str(path))}: the answer cannot be written"
        raise OutputError(message, hint=(error.strerror or str(error)).lower()) from error


def _write(file: io.FileIO, data: bytes) -> None:
    written = file.write(data)
    while written < len(data):  # the disk is all but full: the next one says so
        written += file.write(data[written:])
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def resume(
    path: Path, form: Form, planned: Sequence[Window], same: Mapping[str, object] | None = None
) -> int:
    """How many of the planned windows a file holds already; it ends after them, to be appended to.

    An entry that was being written when the program was killed is cut off. Where none is complete
    the file is empty or missing, so that `head` comes next. With nothing planned, whether the file
    is fresh. In records, start and end are seconds, exact or rounded to milliseconds, and `same` is
    what each must say.

    Raises UsageError, and leaves the file as it is, if it holds anything else or cannot be used.
    """
    reading = _Reading(path, form, planned, json.loads(json.dumps(dict(same or {}))))
    try:
        if path.is_char_device() or path.is_fifo():  # nothing to go on from; reading could wait
            return 0
        with path.open("r+b") as file:
            number, end = reading.whole(file)
            if end != os.fstat(file.fileno()).st_size:
                file.truncate(end)
            return number
    except FileNotFoundError:
        check_folder(path)
        return 0
    except OSError as error:
        raise unusable(path, (error.strerror or str(error)).lower()) from error


def check_folder(path: Path) -> None:
    """Before the work, not after it: a file can be made there. Raises UsageError."""
    folder = path.resolve().parent
    if not folder.is_dir():
        raise unusable(path, "there is no such folder")
    if not os.access(folder, os.W_OK):
        raise unusable(path, "nothing may be written to that folder")


def unusable(path: Path, why: str) -> UsageError:
    """The error for a file that -o names and that cannot be gone on with."""
    return UsageError(f"{shown(str(path))}: {why}", hint=_HINT)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A file against what it should hold. All methods raise UsageError where it does not."""

    path: Path
    form: Form
    planned: Sequence[Window]
    same: Mapping[str, object]

    def whole(self, file: BinaryIO) -> tuple[int, int]:
        """How many entries are complete, and where the last of them ends; (0, 0) if none is."""
        number = end = 0
        blocks = _blocks(file, by_lines=self.form in ("text", "jsonl"))
        if self.form == "vtt":
            self._check_signature(*next(blocks, (b"", 0, False)))
        for block, block_end, ended in blocks:
            if number == len(self.planned):
                more = f"more windows than the {number} of this run" if number else "something"
                raise unusable(self.path, f"it holds {more} already")
            check = self._check_record if self.form == "jsonl" else self._check_cue
            check(number + 1, block, ended)
            if ended:
                number, end = number + 1, block_end
        return number, end

    def _check_signature(self, block: bytes, end: int, ended: bool) -> None:
        if not (block == _SIGNATURE if ended else _SIGNATURE.startswith(block)):
            raise self._strange(1)

    def _check_cue(self, number: int, block: bytes, ended: bool) -> None:
        window = self.planned[number - 1]
        start = _start(self.form, number, window).encode()
        if not ended and start.startswith(block):
            return
        found = _BEGINNINGS[self.form].match(block)
        if found is None or found[1] not in (b"", b"%d" % number):
            raise self._strange(number)
        self._check_times(number, found[2].decode())

    def _check_record(self, number: int, block: bytes, ended: bool) -> None:
        text = block.decode(errors="replace")
        said = record = _record(text)
        if record is None and not ended:
            said = _beginning(text)
        if said is None:
            raise self._strange(number)
        for key, value in self.same.items():
            if (record or key in said) and said.get(key) != value:
                there, here = shown(f"{said.get(key)!r}"), shown(f"{value!r}")
                message = f"{key} is {there} in its window {number} and {here} in this run"
                raise unusable(self.path, message)
        planned_s = self.planned[number - 1]
        start, end = (said.get(key, time_s) for key, time_s in zip(_TIMES, planned_s, strict=True))
        if not _is_time(start) or not _is_time(end):
            raise self._strange(number)
        self._check_times(number, _times(self.form, start, end))

    def _check_times(self, number: int, there: str) -> None:
        here = _times(self.form, *self.planned[number - 1])
        if there != here:
            message = f"its window {number} is {there}, and that of this run {here}"
            raise unusable(self.path, message)

    def _strange(self, number: int) -> UsageError:
        return unusable(self.path, f"its entry {number} is not as vlm writes {NAMES[self.form]}")


def _blocks(file: BinaryIO, *, by_lines: bool) -> Iterator[tuple[bytes, int, bool]]:
    """Each line, or else group of lines: it, where its end mark ends, and whether it has one.

    Without byte-order mark and end mark, and with "\\n" between the lines.
    """
    lines: list[bytes] = []
    position = 0
    for line in file:
        content = line if position else line.removeprefix(codecs.BOM_UTF8)
        content = content.rstrip(b"\r\n")
        position += len(line)
        if content.strip():
            lines.append(content)
        if lines and line.endswith(b"\n") and (by_lines or not content.strip()):
            yield b"\n".join(lines), position, True
            lines = []
    if lines:
        yield b"\n".join(lines), position, False


def _record(text: str) -> Mapping[str, object] | None:
    """The record that a line holds, if it does."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and record.keys() >= {*_TIMES, "text"}
    return record if known and isinstance(record["text"], str) else None


def _beginning(text: str) -> Mapping[str, object] | None:
    """What a record that may break off anywhere says for certain; None if it is none of ours."""
    decode = json.JSONDecoder().raw_decode
    with suppress(ValueError, RecursionError):
        decode(text)
        return None  # it does not break off
    if not text.startswith('{"'):
        return {} if text == "{" else None
    said: dict[str, object] = {}
    position = len("{")
    with suppress(ValueError, RecursionError):
        while True:
            key, position = decode(text, position)
            value, position = decode(text, position + len(": "))
            if not text.startswith(", ", position):  # a number may go on
                break
            said[key] = value
            position += len(", ")
    return said


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9
