"""Where the answers of a run are kept: in a file, beside the pictures, or both."""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vlmcli.bulk import journal
from vlmcli.bulk.journal import Journal, Question
from vlmcli.bulk.kinds import SidecarKind
from vlmcli.bulk.records import Record
from vlmcli.bulk.sidecars import Sidecars
from vlmcli.sources import Source


@dataclass(frozen=True, slots=True)
class Lack:
    """What there is not yet of a picture: its record, its sidecar.

    `answer` is where the journal has an answer for the same bytes.
    """

    record: bool
    sidecar: Path | None
    answer: int | None = None

    def __bool__(self) -> bool:
        return self.record or self.sidecar is not None


@dataclass(slots=True)
class Store:
    """At least one of the two is there; `sidecars_left` counts those that were left as they are."""

    journal: Journal | None
    sidecars: Sidecars | None
    sidecars_left: int = 0

    @property
    def answers(self) -> int:
        """How many there are already, to this question or another."""
        return self.journal.answers if self.journal else 0

    def has_all(self, source: Source) -> bool:
        """Whether it is certain, without a look at the bytes, that nothing is to be written.

        Never of a PDF: each page has a sidecar. Raises InputError as `Sidecars.place` does.
        """
        paged = source.page is not None or source.location.lower().endswith(".pdf")
        if self.journal or paged:
            return False
        return not self._lacking_sidecar(source, None)

    def lack(
        self, source: Source, page: int | None, name: str, sha256: str, question: Question
    ) -> Lack:
        """What is to be written of a picture of these bytes. Raises as `has_all`."""
        sidecar = self._lacking_sidecar(source, page)
        if self.journal is None:
            return Lack(False, sidecar)
        answer = self.journal.find(name, sha256, question)
        has_record = answer is not None and self.journal.holds(name, sha256, question)
        return Lack(not has_record, sidecar, answer)

    def known(self, lack: Lack, name: str) -> Record | None:
        """The answer that is there for the same bytes, as the record of this picture."""
        if self.journal is None or lack.answer is None:
            return None
        return {**self.journal.read(lack.answer), "file": name}

    def was_asked(self, name: str) -> bool:
        """Whether there is any answer under this name, perhaps to another question."""
        return self.journal is not None and self.journal.was_asked(name)

    def write(self, lack: Lack, record: Record) -> None:
        """Put on the disk what is lacking. Raises OutputError, and InputError as a sidecar does."""
        if self.journal and lack.record:
            self.journal.add(record)
        if self.sidecars and lack.sidecar and not self.sidecars.write(lack.sidecar, record):
            self.sidecars_left += 1

    def fail(self, name: str, error: str, question: Question) -> None:
        if self.journal:
            self.journal.fail(name, error, question)

    def succeed(self, name: str, question: Question) -> None:
        if self.journal:
            self.journal.made_good(name, question)

    def _lacking_sidecar(self, source: Source, page: int | None) -> Path | None:
        if self.sidecars is None:
            return None
        path = self.sidecars.place(source, page)
        if self.sidecars.is_wanted(path):
            return path
        self.sidecars_left += 1
        return None


@contextmanager
def opened(file: str | None, sidecar: SidecarKind | None, *, force: bool) -> Iterator[Store]:
    """Raises UsageError, OutputError; when it ends, the file is whole."""
    with ExitStack() as stack:
        lines = stack.enter_context(journal.opened(file)) if file is not None else None
        beside = stack.enter_context(closing(Sidecars(sidecar, force))) if sidecar else None
        yield Store(lines, beside)
