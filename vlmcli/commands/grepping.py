"""The loop of `vlm grep`: picture after picture, past the bad ones, with one model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from vlmcli import answers, backends, messages, output, wording
from vlmcli.backends import Engine
from vlmcli.errors import ExitCode, InputError, ModelError
from vlmcli.inputs import pictures
from vlmcli.inputs.arguments import Named
from vlmcli.inputs.listing import counted, found
from vlmcli.messages import Answer, Image, Message, Verdict
from vlmcli.settings import Settings
from vlmcli.sources import Source

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
class Job:
    """One run of `vlm grep`; the first good picture loads the model."""

    settings: Settings
    wanted: Wanted
    show: Show
    _found: int = field(default=0, init=False)
    _failures: int = field(default=0, init=False)
    _warned: bool = field(default=False, init=False)
    _engine: Engine | None = field(default=None, init=False)

    def run(self, named: Named) -> ExitCode:
        """Look through them all, or until enough is found: OK, NEGATIVE, or INPUT if one could
        not be read."""
        with output.progress(None) as bar, counted(named, bar):
            inputs = found(named)
            while not self._enough and (one := next(inputs, None)):
                before = self._failures
                self._search(*one)
                bar.advance(failed=self._failures > before)
        if self.show.count and not self.show.quiet:
            self._tell_count()
        if self._failures and not (self.show.quiet and self._found):
            return ExitCode.INPUT
        return ExitCode.OK if self._found else ExitCode.NEGATIVE

    @property
    def _enough(self) -> bool:
        most = 1 if self.show.quiet else self.wanted.most
        return most is not None and self._found >= most

    def _search(self, name: str, source: Source | InputError) -> None:
        try:
            if isinstance(source, InputError):
                raise source
            backends.begin()
            if self.wanted.unit == "picture":
                self._search_pictures(source)
            else:
                self._search_file(source)
        except InputError as error:
            self._failures += 1
            if self._shows_records:
                output.record({"file": name, "error": str(error)})
            if self.show.messages:
                output.error(error)

    def _search_pictures(self, source: Source) -> None:
        for image in pictures.read(source, self.settings):
            chance = self._chance(image)
            if self._selects(chance):
                self._tell(image.name, chance)
            if self._enough:
                break

    def _search_file(self, source: Source) -> None:
        """Look through a file up to the first picture that is selected."""
        chances: list[float] = []
        for image in pictures.read(source, self.settings):
            chances.append(self._chance(image))
            if self._selects(chances[-1]):
                if self.wanted.unit == "file":
                    self._tell(source.name, chances[-1])
                return
        if self.wanted.unit == "file without":
            self._tell(source.name, max(chances, default=0.0))

    def _selects(self, chance: float) -> bool:
        return (chance >= self.wanted.threshold) != self.wanted.invert

    def _chance(self, image: Image) -> float:
        """How likely it is that a statement is true of the picture: the likeliest of them.

        After the first that is likely enough no other is asked, unless its figure is to be shown.
        """
        chance = 0.0
        for statement in self.wanted.statements:
            chance = max(chance, self._ask(image, statement))
            decided = chance >= self.wanted.threshold
            if decided and not (self.show.scores or self._shows_records):
                break
        return chance

    def _ask(self, image: Image, statement: str) -> float:
        """How likely it is that a statement is true of the picture; the record of it."""
        question = messages.user(question_of(statement), [image])
        # No system prompt and no language: the answer is not read as words.
        conversation = wording.instructed([question], system=None, language=None)
        engine = self._engine = self._engine or answers.load(self.settings)
        if engine.affirm is None:
            raise ModelError(
                f"{engine.model} does not tell how likely its words are",
                hint="take a model that runs here: -M auto",
            )
        verdict = engine.affirm(conversation)
        if verdict.yes + verdict.no < LITTLE and not self._warned:
            self._warned = True
            output.warn(
                f"{image.name}: the model would answer neither yes nor no, so that what it finds"
                " means little; -M takes another"
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
    return {"file": rest.pop("file"), **said, **rounded, **rest}
