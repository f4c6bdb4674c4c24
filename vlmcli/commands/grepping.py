"""The loop of `vlm grep`: picture after picture, past the bad ones, with one model.

One statement is asked about several pictures together, but never about more than are still to be
found: each could be the last that is needed. Of several statements each is asked by itself, for a
picture that was seen is remembered for the next of them.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from vlmcli import answers, backends, messages, output, wording
from vlmcli.answers import Asked
from vlmcli.backends import Engine
from vlmcli.commands.together import Line, Step, Waiting
from vlmcli.errors import ExitCode, InputError, ModelError, VlmError
from vlmcli.inputs.ahead import File, Files, Pool
from vlmcli.inputs.arguments import Named
from vlmcli.inputs.listing import counted, found
from vlmcli.inputs.pictures import Unread
from vlmcli.messages import Answer, Image, Message, Verdict
from vlmcli.output import Meter
from vlmcli.settings import Settings

LITTLE = 0.1
"""Below this probability of yes and no together, a model was about to say something else."""


Unit = Literal["picture", "file", "file without"]
"""What is found: a picture (a page of a PDF is one), a file that has one, or a file without."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which pictures are to be found: those of which a statement is likely enough, or, with
    `invert`, none. After `most` units the search ends.
    """

    statements: Sequence[str]
    threshold: float
    unit: Unit = "picture"
    invert: bool = False
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """How to tell what was found, and (`messages`) what could not be read."""

    quiet: bool = False
    count: bool = False
    scores: bool = False
    null: bool = False
    messages: bool = True


@dataclass(slots=True)
class _Looked:
    """What was found in one file so far."""

    name: str
    chances: list[float] = field(default_factory=list)
    looked_at: int = 0
    selected: bool = False
    failed: bool = False


@dataclass(slots=True)
class Job:
    """One run of `vlm grep`; the first good picture loads the model.

    At most `batch` pictures are looked at together; None for what the engine thinks best.
    """

    settings: Settings
    wanted: Wanted
    show: Show
    batch: int | None = None
    _found: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)
    _warned: bool = field(default=False, init=False)
    _engine: Engine | None = field(default=None, init=False)

    def run(self, named: Named) -> ExitCode:
        """Look through them all, or until enough is found: OK, NEGATIVE, or INPUT if one could
        not be read."""
        with (
            output.progress(None) as bar,
            counted(named, bar),
            Pool() as pool,
            Files(found(named), self.settings, pool) as files,
        ):
            steps = self._steps(files, bar)
            Line(steps, files, pool, self._chances, self._most_together, self._has_enough).run()
        if self.show.count and not self.show.quiet:
            self._tell_count()
        if self._failures and not (self.show.quiet and self._found):
            return ExitCode.INPUT
        return ExitCode.OK if self._found else ExitCode.NEGATIVE

    @property
    def _most(self) -> int | None:
        return 1 if self.show.quiet else self.wanted.most

    def _has_enough(self) -> bool:
        return self._most is not None and self._found >= self._most

    # The files, and what is to be asked of each -------------------------------------------------

    def _steps(self, files: Iterable[File], bar: Meter) -> Iterator[Step[float]]:
        for file in files:
            looked = _Looked(file.name)
            if isinstance(file.pictures, InputError):
                yield partial(self._fail, looked, file.pictures)
            else:
                backends.begin()
                yield from self._pages(looked, file.pictures or ())
            yield partial(self._end, looked, bar)

    def _pages(self, looked: _Looked, found: Iterable[Unread]) -> Iterator[Step[float]]:
        for number, picture in enumerate(found):
            if self.wanted.unit != "picture":
                # A file that is selected is not looked through any further.
                while looked.looked_at < number:
                    yield None
                if looked.selected or looked.failed:
                    return
            ready = partial(self._ready, picture)
            yield Waiting(picture, ready, partial(self._judge, looked, picture.name))

    def _ready(self, picture: Unread) -> Asked:
        image = picture.decode()
        engine = self._engine if self._together > 1 else None
        return answers.prepare(engine, self._asked(image), self.settings)

    def _asked(self, image: Image, statement: str | None = None) -> list[Message]:
        statement = self.wanted.statements[0] if statement is None else statement
        question = messages.user(question_of(statement), [image])
        # No system prompt and no language: the answer is not read as words.
        return wording.instructed([question], system=None, language=None)

    @property
    def _together(self) -> int:
        engine = self._engine
        if engine is None or engine.affirm_many is None or len(self.wanted.statements) > 1:
            return 1
        return self.batch or engine.most_together

    def _most_together(self) -> int:
        if self._most is None:
            return self._together
        return max(1, min(self._together, self._most - self._found))

    # What has become of it ----------------------------------------------------------------------

    def _judge(
        self, looked: _Looked, name: str, _asked: Asked | None, chance: float | VlmError
    ) -> None:
        """Count and name a picture, or its file, if it is selected."""
        looked.looked_at += 1
        if isinstance(chance, InputError):
            self._fail(looked, chance)
        elif isinstance(chance, VlmError):
            raise chance
        else:
            looked.chances.append(chance)
            if (chance >= self.wanted.threshold) != self.wanted.invert:
                looked.selected = True
                if self.wanted.unit != "file without":
                    self._tell(name if self.wanted.unit == "picture" else looked.name, chance)

    def _end(self, looked: _Looked, bar: Meter) -> None:
        if self.wanted.unit == "file without" and not (looked.selected or looked.failed):
            self._tell(looked.name, max(looked.chances, default=0.0))
        bar.advance(failed=looked.failed)

    def _fail(self, looked: _Looked, error: InputError) -> None:
        looked.failed = True
        self._failures += 1
        if self._shows_records:
            output.record({"file": looked.name, "error": str(error)})
        if self.show.messages:
            output.error(error)

    def _chances(self, several: Sequence[Asked]) -> Iterator[float | VlmError]:
        """How likely it is of each picture that a statement is true: the likeliest of them."""
        if not several:
            return
        engine = self._engine = self._engine or answers.load(self.settings)
        if engine.affirm is None:
            raise ModelError(
                f"{engine.model} does not tell how likely its words are",
                hint="take a model that runs here: -M auto",
            )
        if self._together > 1 and engine.affirm_many is not None:
            verdicts = engine.affirm_many([one.given for one in several])
            statement = self.wanted.statements[0]
            for one, verdict in zip(several, verdicts, strict=True):
                if isinstance(verdict, VlmError):
                    yield verdict
                else:
                    yield self._told(engine, one.conversation, verdict, statement)
            return
        for one in several:
            yield self._of_any(engine, engine.affirm, one)

    def _of_any(
        self, engine: Engine, affirm: Callable[[Sequence[Message]], Verdict], one: Asked
    ) -> float | VlmError:
        """After the first that is likely enough no other is asked, unless its figure is to be
        shown."""
        (image,) = one.conversation[-1].images
        chance = 0.0
        for statement in self.wanted.statements:
            conversation = self._asked(image, statement)
            try:
                verdict = affirm(conversation)
            except InputError as error:
                return error
            chance = max(chance, self._told(engine, conversation, verdict, statement))
            decided = chance >= self.wanted.threshold
            if decided and not (self.show.scores or self._shows_records):
                break
        return chance

    def _told(
        self, engine: Engine, conversation: Sequence[Message], verdict: Verdict, statement: str
    ) -> float:
        """How likely it is that a statement is true of the picture; the record of it."""
        if verdict.yes + verdict.no < LITTLE and not self._warned:
            self._warned = True
            output.warn(
                f"{conversation[-1].images[0].name}: the model would answer neither yes nor no, so"
                " that what it finds means little; -M takes another"
            )
        if self._shows_records:
            match = verdict.true >= self.wanted.threshold
            said = {"statement": statement, "match": match, "threshold": self.wanted.threshold}
            output.record(_record(engine, conversation, verdict, self.settings, said))
        if self.settings.stats:
            output.stats(verdict.done, engine.label)
        return verdict.true

    @property
    def _shows_records(self) -> bool:
        return self.settings.json and not (self.show.quiet or self.show.count)

    def _tell(self, name: str, chance: float) -> None:
        """Count something as found, and name it."""
        self._found += 1
        if self.show.quiet or self.show.count or self.settings.json:
            return
        end = "\0" if self.show.null else "\n"
        output.file_line(name, f"{chance:.3f}" if self.show.scores else "", end=end)

    def _tell_count(self) -> None:
        if self.settings.json:
            output.record({"count": self._found})
        else:
            output.plain(str(self._found))


def question_of(statement: str) -> str:
    """What is asked to learn whether a statement is true; a question is asked as it stands."""
    words = statement.strip()
    is_question = words.endswith(("?", "？"))  # the wide one is of Chinese and Japanese
    return words if is_question else wording.shows(words)


def _record(
    engine: Engine,
    conversation: Sequence[Message],
    verdict: Verdict,
    settings: Settings,
    said: dict[str, object],
) -> dict[str, object]:
    """What `--json` says of one question; of an answer in words it has nothing."""
    fields = answers.record(engine, conversation, Answer("", "", verdict.done), settings)
    chances = {"probability": verdict.true, "yes": verdict.yes, "no": verdict.no}
    rounded = {name: round(chance, 6) for name, chance in chances.items()}
    of_words = ("text", "finish_reason", "settings", "new_tokens")
    rest = {name: value for name, value in fields.items() if name not in of_words}
    seeing = {"settings": settings.seeing} if settings.seeing else {}
    return {"file": rest.pop("file"), **said, **rounded, **seeing, **rest}
