"""The file of a bulk run: what it holds is not asked again, and each record is on the disk at once.

One run at a time has it. It is only ever added to, with one exception: a failure that was made good
is taken out when the run ends, in a whole new file that takes the place of the old one.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

import filelock

from vlmcli import output, transcript, writing
from vlmcli.bulk import kinds
from vlmcli.bulk.index import Index
from vlmcli.bulk.records import BOM, LINES, ROWS, Form, Record
from vlmcli.errors import OutputError, UsageError, shown
from vlmcli.output.text import clean

_PAGE = re.compile(r"#page=[1-9]\d*\Z")
_NO_PLACE = re.compile(r"-\Z|[A-Za-z][A-Za-z0-9+.-]*:")  # a URL and such


@dataclass(frozen=True, slots=True)
class Question:
    """All that an answer depends on but the picture; `settings` are those of the answer, `weights`
    the commit or the fingerprint of the model."""

    prompt: str
    settings: Mapping[str, object]
    model: str = ""
    weights: str | None = None

    @property
    def words(self) -> tuple[str, str]:
        # Cleaned, as a table keeps them.
        settings = json.dumps(self.settings, sort_keys=True, ensure_ascii=False)
        return clean(self.prompt), clean(settings)

    @property
    def key(self) -> tuple[str, ...]:
        return clean(self.model), self.weights or "", *self.words


@dataclass(slots=True)
class Journal:
    """What is done, and where the next record goes."""

    path: Path
    form: Form
    answers: int = 0
    """How many it held when it was opened."""
    _index: Index = field(default_factory=Index)
    _obsolete: int = 0  # failures in it that a later record made good

    def find(self, name: str, sha256: str, question: Question) -> int | None:
        """Where there is an answer for a picture of these bytes, whatever it is called."""
        return self._index.get("answer", *_content(name, sha256), *question.key)

    def holds(self, name: str, sha256: str, question: Question) -> bool:
        """Whether the file has its record, under this name."""
        key = "named", _place(name), *_content(name, sha256), *question.key
        return self._index.get(*key) is not None

    def was_asked(self, name: str) -> bool:
        """Whether there is any answer under this name, also to another question."""
        return self._index.get("asked", _place(name)) is not None

    def read(self, at: int) -> Record:
        """The record that `find` has found."""
        with self.path.open("rb") as file:
            file.seek(at)
            block, _ = next(self.form.blocks(file))
        return self._read(block)

    def add(self, record: Record) -> None:
        """Put an answer on the disk for good. Raises OutputError."""
        self._note(record, self._append(record))

    def fail(self, name: str, error: str, question: Question) -> None:
        """Put a failure on the disk, unless it stands there already. Raises OutputError."""
        at = self._index.get("failure", _place(name), *question.words)
        if at is None or clean(str(self.read(at)["error"])) != clean(error):
            settings = {"settings": question.settings} if question.settings else {}
            record = {"file": name, "error": error, "prompt": question.prompt, **settings}
            self._note(record, self._append(record))

    def made_good(self, name: str, question: Question) -> None:
        """A failure under this name, if there is one, holds no more."""
        at = self._index.get("failure", _place(name), *question.words)
        if at is not None:
            self._index.remove("failure", _place(name), *question.words)
            self._index.put(at, "obsolete", str(at))
            self._obsolete += 1

    def _append(self, record: Record) -> int:
        at = self.path.stat().st_size if self.path.exists() else 0
        transcript.append(self.path, ("" if at else self.form.head) + self.form.write(record))
        return at or len(self.form.head)

    def _read(self, block: bytes) -> Record:
        record = self.form.read(block)
        assert record is not None  # it was looked at when the file was opened
        return record

    def _note(self, record: Record, at: int) -> None:
        name, question = str(record["file"]), _question_of(record)
        self.made_good(name, question)
        if "error" in record:
            self._index.put(at, "failure", _place(name), *question.words)
            return
        self.made_good(_PAGE.sub("", name), question)  # the file as a whole could be read
        content = *_content(name, str(record["sha256"])), *question.key
        if self._index.get("answer", *content) is None:
            self._index.put(at, "answer", *content)
        self._index.put(at, "named", _place(name), *content)
        self._index.put(at, "asked", _place(name))

    # Opening and closing -----------------------------------------------------------------------

    def load(self) -> None:
        """Read what is done; a record that a kill has cut short goes.

        Raises UsageError, and leaves the file as it is, if it holds anything else.
        """
        try:
            with self.path.open("r+b") as file:
                self._read_all(file)
        except FileNotFoundError:
            transcript.check_folder(self.path)
        except OSError as error:
            raise transcript.unusable(self.path, (error.strerror or str(error)).lower()) from error
        if self._obsolete:
            self.tidy()
            self.close()
            self._index, self.answers = Index(), 0
            self.load()

    def _read_all(self, file: BinaryIO) -> None:
        end = 0
        for number, (block, complete) in enumerate(self.form.blocks(file)):
            if number == 0 and self.form.head:
                kept = self._checked_head(block, complete)
            else:
                kept = self._checked(number + 1, block, complete)
                if kept.strip():
                    self._note(record := self._read(kept), end)
                    self.answers += "error" not in record
            if kept != block:
                file.seek(end)
                file.write(kept)
                file.truncate()
            end += len(kept)

    def _checked(self, number: int, block: bytes, complete: bool) -> bytes:
        """What of a record, or of what a kill has left of one, is to be kept."""
        kept = block if complete else self.form.mend(block)
        if kept is None or (kept.strip() and self.form.read(kept) is None):
            raise transcript.unusable(self.path, f"its entry {number} is not as vlm writes it")
        return kept

    def _checked_head(self, block: bytes, complete: bool) -> bytes:
        head = self.form.head.encode()
        if not complete and head.startswith(block):
            return b""
        if block.removeprefix(BOM).strip() != head.strip():
            raise transcript.unusable(self.path, "its columns are not those that vlm writes")
        return block

    def tidy(self) -> None:
        """Take out the failures that hold no more."""
        if not self._obsolete:
            return
        with self.path.open("rb") as file, writing.replaced(self.path) as new:
            position = 0
            for block, _ in self.form.blocks(file):
                if self._index.get("obsolete", str(position)) is None:
                    new.write(block)
                position += len(block)
        self._obsolete = 0

    def close(self) -> None:
        self._index.close()


@contextmanager
def opened(file: str) -> Iterator[Journal]:
    """The journal of the output `file`, which nobody else may write to meanwhile.

    At the end, also of a run that was broken off, the file is whole. Raises UsageError and
    OutputError.
    """
    kind, path = kinds.of_file(file), Path(os.path.realpath(file))
    finish: Callable[[], None] = _nothing_more
    if os.path.exists(path) and not path.is_file():  # noqa: PTH110 - Path's raises for a long name
        raise transcript.unusable(path, "it is no file")
    transcript.check_folder(path)
    with _alone(path):
        if kind == "parquet":
            from vlmcli.bulk import parquet

            journal, finish = Journal(parquet.lines_of(path), LINES), partial(parquet.pack, path)
        else:
            journal = Journal(path, ROWS if kind == "csv" else LINES)
        with closing(journal):
            with output.status(f"reading {path.name}"):
                journal.load()
            try:
                yield journal
            except BaseException:
                with suppress(OutputError):  # what broke the run off is what is to be told
                    journal.tidy()
                    finish()
                raise
            journal.tidy()
            finish()


def _nothing_more() -> None:
    pass


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout as error:
        hint = "wait until it ends, or name another file with -o"
        raise UsageError(f"{shown(str(path))}: another run is writing it", hint=hint) from error
    except OSError as error:
        raise transcript.unusable(path, (error.strerror or str(error)).lower()) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows takes no file away that is in use
            Path(lock.lock_file).unlink()
        lock.release()


def _place(name: str) -> str:
    """The same for every spelling of a file's path."""
    return name if _NO_PLACE.match(name) else os.path.abspath(name)  # noqa: PTH100


def _content(name: str, sha256: str) -> tuple[str, str]:
    page = _PAGE.search(name)
    return sha256, page[0] if page else ""


def _question_of(record: Record) -> Question:
    settings = record.get("settings")
    weights = record.get("revision") or record.get("fingerprint")
    return Question(
        str(record.get("prompt", "")),
        settings if isinstance(settings, dict) else {},
        str(record.get("model", "")),
        str(weights) if weights else None,
    )
