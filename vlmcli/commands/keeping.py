"""A bulk run: what is done is skipped, what failed is tried again, and each answer is kept at once.

Those of a batch are kept before the next one begins. Where nothing is to be kept, the answers are
printed.
"""

from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from vlmcli import answers, backends, interrupts, output
from vlmcli.answers import Asked
from vlmcli.bulk import store
from vlmcli.bulk.journal import Question
from vlmcli.bulk.records import Record
from vlmcli.bulk.store import Lack, Store
from vlmcli.commands.bulk_options import Target
from vlmcli.commands.captioning import Asking, Job, asked
from vlmcli.commands.together import Line, Step, Waiting
from vlmcli.errors import DeviceError, ExitCode, InputError, ModelError, VlmError, shown
from vlmcli.inputs.ahead import File, Files, Pool
from vlmcli.inputs.arguments import Named
from vlmcli.inputs.listing import counted, found
from vlmcli.inputs.pictures import Unread
from vlmcli.messages import Answer
from vlmcli.output import Meter
from vlmcli.settings import Settings
from vlmcli.sources import Source

_FAILURES_IN_A_ROW = 20
"""Of the model or the device, at different pictures: then it is not the pictures."""


def run_each(job: Job, named: Named, target: Target | None) -> ExitCode:
    """Ask about each picture, and print the answers or keep them in `target`."""
    if target is None or job.dry_run:
        return job.run(named)
    bulk: Bulk | None = None
    try:
        with (
            interrupts.first_only(),
            store.opened(target.file, target.sidecar, force=target.force) as kept,
        ):
            bulk = Bulk(job.settings, Asking(job.settings, job.words, job.batch), kept)
            bulk.run(named)
    except (KeyboardInterrupt, VlmError):
        if bulk and (bulk.done or bulk.skipped or bulk.failed):
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
    asking: Asking
    kept: Store
    done: int = 0
    skipped: int = 0
    failed: int = 0
    _question: Question = field(init=False)
    _failed_before: int = 0  # when the turn of this file came
    _loaded: bool = False
    _in_a_row: int = 0
    _told: bool = False
    _sound: set[str] = field(default_factory=set)  # arguments of which nothing bad is known
    _pending: set[Hashable] = field(default_factory=set)  # what is being written, but not yet there

    def __post_init__(self) -> None:
        prompt = "\n".join(asked(self.asking.words, self.settings)[-1].texts)
        self._question = Question(prompt, self.settings.answering)

    @property
    def counts(self) -> str:
        return f"{self.done} done, {self.skipped} skipped, {self.failed} failed"

    def run(self, named: Named) -> None:
        self._sound.update(named.files)
        with (
            output.progress(None) as bar,
            counted(named, bar),
            Pool() as pool,
            Files(found(named), self.settings, pool, self._is_wanted) as files,
        ):
            asking = self.asking
            steps = self._steps(files, bar)
            Line(steps, files, pool, asking.answer, lambda: asking.most).run()
        for name in self._sound:  # a folder, say, that could not be looked into the last time
            self.kept.succeed(name, self._question)

    def _is_wanted(self, source: Source) -> bool:
        return not self.kept.has_all(source)

    # What is to be done -------------------------------------------------------------------------

    def _steps(self, files: Iterable[File], bar: Meter) -> Iterator[Step[Answer]]:
        for file in files:
            if isinstance(file.pictures, InputError):
                yield partial(self._fail, file.name, file.pictures)
            elif file.pictures is None:
                yield self._skip
            else:
                backends.begin()
                yield from self._steps_of(file, file.pictures)
            yield partial(self._advance, bar)

    def _steps_of(self, file: File, found: Iterable[Unread]) -> Iterator[Step[Answer]]:
        """Those for each picture of a file, and for the file that they are in."""
        bad: set[str] = set()
        for picture in found:
            # Of the same bytes, or beside the same picture: it may be done by then.
            while (picture.sha256, picture.page) in self._pending:
                yield None
            yield from self._steps_for(file, picture, bad)
            yield partial(self._end, picture.name, bad)
        yield partial(self._end, file.name, bad)

    def _steps_for(self, file: File, picture: Unread, bad: set[str]) -> Iterator[Step[Answer]]:
        assert file.source is not None
        try:
            question = self._asked_with_model()
            lack = self.kept.lack(file.source, picture.page, picture.name, picture.sha256, question)
            record = self.kept.known(lack, picture.name)
        except InputError as error:
            yield partial(self._fail, picture.name, error, bad)
            return
        if not lack:
            yield self._skip
            return
        self._pending.add((picture.sha256, picture.page))
        if record is not None:
            yield partial(self._write, lack, record, picture, bad)
        else:
            self._tell_of_others(picture.name)
            ready = partial(self.asking.ready, picture)
            yield Waiting(picture, ready, partial(self._keep, lack, picture, bad))

    def _asked_with_model(self) -> Question:
        """To find out what is done, the model is named; it is loaded when there is more to do."""
        engine = self.asking.engine
        if engine is not None and not self._loaded:
            self._loaded = True
            self._question = replace(self._question, model=engine.model, weights=engine.weights)
        elif not self._question.model and self.kept.answers:
            model, weights = backends.identify(self.settings)
            self._question = replace(self._question, model=model, weights=weights)
        return self._question

    # What has become of it ----------------------------------------------------------------------

    def _skip(self) -> None:
        self.skipped += 1

    def _advance(self, bar: Meter) -> None:
        bar.advance(failed=self.failed > self._failed_before)
        self._failed_before = self.failed

    def _end(self, name: str, bad: set[str]) -> None:
        if name not in bad:
            self.kept.succeed(name, self._question)

    def _keep(
        self,
        lack: Lack,
        picture: Unread,
        bad: set[str],
        one: Asked | None,
        answer: Answer | VlmError,
    ) -> None:
        """Write the answer about a picture, or why there is none."""
        if isinstance(answer, ModelError | DeviceError):  # too large for the memory, …
            self._in_a_row += 1
            if self._in_a_row == _FAILURES_IN_A_ROW:
                raise answer
            message = f"{shown(picture.name)}: {answer.message}"
            self._fail(picture.name, InputError(message, hint=answer.hint), bad)
        elif isinstance(answer, InputError):
            self._fail(picture.name, answer, bad)
        elif isinstance(answer, VlmError):
            raise answer
        else:
            assert one is not None
            self._in_a_row = 0
            engine = self.asking.load()
            said = bool(answer.text)
            answers.finish(engine, answer.done, self.settings, picture.name, said=said)
            record = answers.record(engine, one.conversation, answer, self.settings)
            self._write(lack, record, picture, bad)
        self._pending.discard((picture.sha256, picture.page))

    def _write(self, lack: Lack, record: Record, picture: Unread, bad: set[str]) -> None:
        """Write what is lacking."""
        self._pending.discard((picture.sha256, picture.page))
        try:
            self.kept.write(lack, record)
            self.done += 1
        except InputError as error:
            self._fail(picture.name, error, bad)

    def _fail(self, name: str, error: InputError, bad: set[str] | None = None) -> None:
        if bad is not None:
            bad.add(name)
        self.failed += 1
        self._sound.discard(name)
        output.error(error)
        self.kept.fail(name, str(error), self._question)

    def _tell_of_others(self, name: str) -> None:
        if not self._told and self.kept.was_asked(name):
            self._told = True
            output.note(
                "there are other answers about some of these pictures: of another model, prompt or"
                " setting, or of a file that has changed since; they stay"
            )
