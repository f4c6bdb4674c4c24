"""The loop of `vlm caption`: picture after picture, past the bad ones, with one model."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice

from vlmcli import answers, backends, messages, output, wording
from vlmcli.answers import Asked
from vlmcli.backends import Engine, Reader
from vlmcli.commands.together import Line, Step, Waiting
from vlmcli.errors import ExitCode, InputError, VlmError
from vlmcli.inputs import pictures
from vlmcli.inputs.ahead import File, Files, Pool
from vlmcli.inputs.arguments import Named
from vlmcli.inputs.listing import Found, counted, found
from vlmcli.inputs.pictures import Unread
from vlmcli.messages import Answer, Image, Message, Text
from vlmcli.output import Meter
from vlmcli.settings import Settings
from vlmcli.sources import Source


def asked(words: Text, settings: Settings, *seen: Image) -> list[Message]:
    """The conversation that asks about a picture."""
    return wording.instructed([messages.user(words, seen)], settings.system, settings.lang)


@dataclass(slots=True)
class Asking:
    """One question, to be asked about each of many pictures; the first good one loads the model.

    At most `batch` are asked about at once; None for what the engine thinks best.
    """

    settings: Settings
    words: Text
    batch: int | None = None
    engine: Engine | None = field(default=None, init=False)

    @property
    def most(self) -> int:
        """How many pictures are asked about at once."""
        engine = self.engine
        if engine is None or engine.generate_many is None or self.settings.choices:
            return 1
        return self.batch or engine.most_together

    def ready(self, picture: Unread) -> Asked:
        """What is asked about a picture. Raises InputError, ModelError."""
        conversation = asked(self.words, self.settings, picture.decode())
        engine = self.engine if self.most > 1 else None
        return answers.prepare(engine, conversation, self.settings)

    def load(self) -> Engine:
        self.engine = self.engine or answers.load(self.settings)
        return self.engine

    def answer(self, several: Sequence[Asked]) -> Iterator[Answer | VlmError]:
        """What becomes of each."""
        if several:
            engine = self.load()
            yield from answers.collect_many(engine, several, self.settings, together=self.most)


@dataclass(slots=True)
class Job:
    """What to ask about each picture, and how to show it."""

    settings: Settings
    words: Text
    with_filename: bool | None = None
    dry_run: bool = False
    batch: int | None = None
    failures: int = field(default=0, init=False)
    _asking: Asking = field(init=False)
    _reader: Reader | None = field(default=None, init=False)
    _failed: bool = field(default=False, init=False)  # of the file whose turn it is

    def __post_init__(self) -> None:
        self._asking = Asking(self.settings, self.words, self.batch)

    def run(self, named: Named) -> ExitCode:
        """Caption them all; INPUT if any failed. One file that is bad raises its InputError."""
        inputs = found(named)
        first = [*islice(inputs, 2)]
        count = len(first)
        with output.progress(count if count < 2 else None) as bar, counted(named, bar):
            if self.dry_run or _is_one_picture(first):
                count = self._run_alone(named, first, inputs, bar)
            else:
                count = self._run_together(chain(first, inputs), bar)
        if self.failures and count > 1:
            output.warn(f"{self.failures} of {count} failed")
        return ExitCode.INPUT if self.failures else ExitCode.OK

    def _fail(self, name: str, error: InputError) -> None:
        self.failures += not self._failed
        self._failed = True
        if self.settings.json:
            output.record({"file": name, "error": str(error)})
        output.error(error)

    def _advance(self, bar: Meter) -> None:
        bar.advance(failed=self._failed)
        self._failed = False

    # One after the other ------------------------------------------------------------------------

    def _run_alone(
        self, named: Named, first: Sequence[Found], rest: Iterator[Found], bar: Meter
    ) -> int:
        alone = [name for name, _ in first] == [*named.files] and len(first) == 1
        count = 0
        for name, source in chain(first, rest):
            self._caption_source(name, source, alone=alone)
            self._advance(bar)
            count += 1
        return count

    def _caption_source(self, name: str, source: Source | InputError, *, alone: bool) -> None:
        try:
            if isinstance(source, InputError):
                raise source
            backends.begin()
            for image in pictures.read(source, self.settings):
                self._caption(image, alone=alone and image.name == name)
        except InputError as error:
            if alone and not self.settings.json:
                raise
            self._fail(name, error)

    def _caption(self, image: Image, *, alone: bool) -> None:
        conversation = asked(self.words, self.settings, image)
        if self.dry_run:
            self._reader = self._reader or backends.read(self.settings)
            answers.dry_run(self._reader, conversation, self.settings)
        elif self.settings.json or not self._is_named(alone=alone):
            answers.show(self._asking.load(), conversation, self.settings)
        else:
            answer = answers.collect(self._asking.load(), conversation, self.settings)
            self._show_line(image.name, answer)

    def _is_named(self, *, alone: bool) -> bool:
        return self.with_filename if self.with_filename is not None else not alone

    def _show_line(self, name: str, answer: Answer) -> None:
        output.thoughts(answer.reasoning)
        output.caption_line(name, answer.text)
        engine = self._asking.load()
        answers.finish(engine, answer.done, self.settings, name, said=bool(answer.text))

    # Several at once ----------------------------------------------------------------------------

    def _run_together(self, inputs: Iterable[Found], bar: Meter) -> int:
        count = 0

        def steps(files: Iterable[File]) -> Iterator[Step[Answer]]:
            nonlocal count
            for file in files:
                yield from self._steps(file)
                yield partial(self._advance, bar)
                count += 1

        with Pool() as pool, Files(inputs, self.settings, pool) as files:
            asking = self._asking
            Line(steps(files), files, pool, asking.answer, lambda: asking.most).run()
        return count

    def _steps(self, file: File) -> Iterator[Step[Answer]]:
        if isinstance(file.pictures, InputError):
            yield partial(self._fail, file.name, file.pictures)
            return
        backends.begin()
        for picture in file.pictures or ():
            ready = partial(self._asking.ready, picture)
            yield Waiting(picture, ready, partial(self._show, file.name, picture.name))

    def _show(self, file: str, name: str, asked: Asked | None, answer: Answer | VlmError) -> None:
        if isinstance(answer, InputError):
            self._fail(file, answer)
        elif isinstance(answer, VlmError):
            raise answer
        elif self.settings.json or not self._is_named(alone=False):
            assert asked is not None
            answers.show_answer(self._asking.load(), asked.conversation, answer, self.settings)
        else:
            self._show_line(name, answer)


def _is_one_picture(first: Sequence[Found]) -> bool:
    """Whether there is nothing but one input, and that is no PDF with all its pages."""
    if len(first) != 1:
        return False
    source = first[0][1]
    if isinstance(source, InputError) or source.page is not None:
        return True
    return not source.location.lower().endswith(".pdf")
