"""A bulk run: what is done is skipped, what failed is tried again, and each answer is kept at once.

Where nothing is to be kept, the answers are printed.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from vlmcli import answers, backends, interrupts, output
from vlmcli.backends import Engine
from vlmcli.bulk import store
from vlmcli.bulk.journal import Question
from vlmcli.bulk.records import Record
from vlmcli.bulk.store import Store
from vlmcli.commands.bulk_options import Target
from vlmcli.commands.captioning import Job, asked
from vlmcli.errors import DeviceError, ExitCode, InputError, ModelError, VlmError, shown
from vlmcli.inputs import pictures
from vlmcli.inputs.arguments import Named
from vlmcli.inputs.listing import counted, found
from vlmcli.inputs.pictures import Unread
from vlmcli.messages import Text
from vlmcli.settings import Settings
from vlmcli.sources import Source

_FAILURES_IN_A_ROW = 20
"""Of the model or the device, at different pictures: then it is not the pictures."""


def run_each(job: Job, named: Named, target: Target | None) -> ExitCode:
    """Ask about each picture, and print the answers or keep them in `target`."""
    if target is None or job.dry_run:
        return job.run(named)
    bulk = Bulk(job.settings, job.words)
    try:
        with (
            interrupts.first_only(),
            store.opened(target.file, target.sidecar, force=target.force) as kept,
        ):
            bulk.run(named, kept)
    except (KeyboardInterrupt, VlmError):
        if bulk.done or bulk.skipped or bulk.failed:
            output.note(f"stopped: {bulk.counts}; the same command goes on from here")
        raise
    again = "; the same command tries them again" if bulk.failed else ""
    output.note(f"{bulk.counts}{again}")
    if left := kept.sidecars_left:
        output.note(f"{left} had a sidecar already; --force writes them anew")
    return ExitCode.INPUT if bulk.failed else ExitCode.OK


@dataclass(slots=True)
class Bulk:
    """The question of one run, and what has become of its pictures so far."""

    settings: Settings
    words: Text
    done: int = 0
    skipped: int = 0
    failed: int = 0
    _question: Question = field(init=False)
    _engine: Engine | None = None
    _in_a_row: int = 0
    _told: bool = False
    _sound: set[str] = field(default_factory=set)  # arguments of which nothing bad is known

    def __post_init__(self) -> None:
        prompt = "\n".join(asked(self.words, self.settings)[-1].texts)
        self._question = Question(prompt, self.settings.answering)

    @property
    def counts(self) -> str:
        return f"{self.done} done, {self.skipped} skipped, {self.failed} failed"

    def run(self, named: Named, kept: Store) -> None:
        self._sound.update(named.files)
        with output.progress(None) as bar, counted(named, bar):
            for name, source in found(named):
                before = self.failed
                if isinstance(source, InputError):
                    self._fail(kept, name, source)
                else:
                    self._do(kept, name, source)
                bar.advance(failed=self.failed > before)
        for name in self._sound:  # a folder, say, that could not be looked into the last time
            kept.succeed(name, self._question)

    def _do(self, kept: Store, name: str, source: Source) -> None:
        bad: set[str] = set()
        for part, error in self._parts(kept, name, source):
            if error is not None:
                bad.add(part)
                self._fail(kept, part, error)
            elif part not in bad:
                kept.succeed(part, self._question)

    def _parts(
        self, kept: Store, name: str, source: Source
    ) -> Iterator[tuple[str, InputError | None]]:
        """What has become of each picture, and in the end of the file that they are in."""
        try:
            if kept.has_all(source):
                self.skipped += 1
                return
            backends.begin()
            for picture in pictures.find(source, self.settings):
                try:
                    self._keep(kept, source, picture)
                except InputError as error:
                    yield picture.name, error
                else:
                    yield picture.name, None
        except InputError as error:
            yield name, error
        else:
            yield name, None

    def _keep(self, kept: Store, source: Source, picture: Unread) -> None:
        """Ask about a picture if it has to be, and write what is lacking. Raises InputError."""
        question = self._asked_with_model(kept)
        lack = kept.lack(source, picture.page, picture.name, picture.sha256, question)
        if not lack:
            self.skipped += 1
            return
        record = kept.known(lack, picture.name)
        if record is None:
            self._tell_of_others(kept, picture.name)
            record = self._answer(picture)
        kept.write(lack, record)
        self.done += 1

    def _asked_with_model(self, kept: Store) -> Question:
        """To find out what is done, the model is named; it is loaded when there is more to do."""
        if not self._question.model and kept.answers:
            model, weights = backends.identify(self.settings)
            self._question = replace(self._question, model=model, weights=weights)
        return self._question

    def _answer(self, picture: Unread) -> Record:
        image = picture.decode()
        conversation = asked(self.words, self.settings, image)
        if self._engine is None:
            self._engine = engine = answers.load(self.settings)
            self._question = replace(self._question, model=engine.model, weights=engine.weights)
        try:
            answer = answers.collect(self._engine, conversation, self.settings)
        except (ModelError, DeviceError) as error:  # too large for the memory, for the context, …
            self._in_a_row += 1
            if self._in_a_row == _FAILURES_IN_A_ROW:
                raise
            raise InputError(f"{shown(image.name)}: {error.message}", hint=error.hint) from error
        self._in_a_row = 0
        said = bool(answer.text)
        answers.finish(self._engine, answer.done, self.settings, image.name, said=said)
        return answers.record(self._engine, conversation, answer, self.settings)

    def _fail(self, kept: Store, name: str, error: InputError) -> None:
        self.failed += 1
        self._sound.discard(name)
        output.error(error)
        kept.fail(name, str(error), self._question)

    def _tell_of_others(self, kept: Store, name: str) -> None:
        if not self._told and kept.was_asked(name):
            self._told = True
            output.note(
                "there are other answers about some of these pictures: of another model, prompt or"
                " setting, or of a file that has changed since; they stay"
            )
