"""One chat while it goes on: what was said, who answers, and where it is kept."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vlmcli import answers, interrupts, output, wording
from vlmcli.backends import Engine
from vlmcli.chat import attaching, context, remembering
from vlmcli.chat.conversation import Conversation, Ending, Seen, Turn, as_messages, name_of
from vlmcli.chat.store import Transcript
from vlmcli.errors import InputError, OutputError, UsageError
from vlmcli.messages import Answer, Chunk, Delta, Done, Image, Message, Thought
from vlmcli.models import names
from vlmcli.settings import Settings

_NAMED = 4
"""Turns that are named one by one when they have to go."""


@dataclass(slots=True)
class Session:
    """The state of a chat. Its methods raise VlmError, and leave it as it was before.

    `began` is the settings at the start. `left_out` counts the oldest turns that the model has no
    room for. `unseen` is what could not be read, as long as a question could be about it.
    `stopped` is whether Ctrl-C ended the last answer, `over` whether the user leaves.
    `written` holds the files that this chat may write anew.
    """

    settings: Settings
    engine: Engine
    kept: Transcript
    talk: Conversation = field(default_factory=Conversation)
    thumbnails: bool = False
    last: Done | None = None
    left_out: int = 0
    unseen: str = ""
    over: bool = False
    stopped: bool = False
    written: set[Path] = field(default_factory=set)
    began: Settings = field(init=False)
    _announced: int = field(default=0, init=False)
    _costs: dict[tuple[str, str], int | None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.began = self.settings

    # What is shown to the model ----------------------------------------------------------------

    def stage(self, seen: Sequence[Seen]) -> None:
        """Put something before the next question, and say what it is. Nothing is sent."""
        lines = [attaching.described(one, self.cost(one)) for one in seen]  # refused? then none is
        for one, line in zip(seen, lines, strict=True):
            if self.thumbnails:
                pixels = one.pixels if isinstance(one, Image) else one.frames[0]
                output.show_thumbnail(pixels, sys.stderr)
            output.note(f"attached {line}")
        self.talk = self.talk.stage(seen)
        self.unseen = ""
        self._announce()

    def knows(self, seen: Seen) -> bool:
        """Whether the model sees it already, which is then said: its name is enough to ask."""
        for number, turn in enumerate(self.talk.turns[self.left_out :], self.left_out + 1):
            if any(attaching.is_same(seen, one) for one in turn.seen):
                output.note(f"{attaching.displayed(seen.name)} is seen since turn {number}")
                return True
        if any(attaching.is_same(seen, one) for one in self.talk.staged):
            output.note(f"{attaching.displayed(seen.name)} is attached already")
            return True
        return False

    def cost(self, seen: Seen) -> int | None:
        """How many tokens it takes; counted once for each model."""
        key = (self.engine.model, attaching.place(seen))
        if key not in self._costs:
            self._costs[key] = attaching.cost(seen, self.engine)
        return self._costs[key]

    # Questions ---------------------------------------------------------------------------------

    def ask(self, words: str) -> None:
        """Answer a question about all that is staged and all that was said."""
        if self.unseen:
            raise InputError(
                f"not asked: {self.unseen} could not be read",
                hint="attach something, or /clear; then ask",
            )
        before, left_out = self.talk, self.left_out
        asked = before.ask(words)
        wording.instructed([asked.turns[-1].asked], self.system, self.settings.lang)
        self._record("asked", content=remembering.to_json(asked.turns[-1].asked.content))
        self.talk = asked
        try:
            self._answer(unless_begun=asked)
        except BaseException:
            if not self.talk.turns[-1].ending:
                self._record("taken back")
                self.talk, self.left_out = before, left_out
            raise

    def ask_again(self) -> None:
        """Answer the last question anew. The old answer stays until the new one has begun."""
        if not self.talk.turns:
            raise UsageError("nothing was asked yet")
        before = self.talk
        self.talk = before.unanswered()
        try:
            self._answer(unless_begun=before)
        except BaseException:
            if not self.talk.turns[-1].ending:
                self.talk = before
            raise

    def _answer(self, *, unless_begun: Conversation) -> None:
        """Show and keep the answer to the open question, as far as it comes.

        If it is stopped before its first word, the conversation is `unless_begun`.
        """
        conversation = self._fitting()
        pieces: list[str] = []
        self.last, self.stopped = None, False
        with interrupts.first_only():
            try:
                self.last = self._show(conversation, pieces)
            except KeyboardInterrupt:
                self.stopped = True
                output.note("stopped" if pieces else "stopped before the answer began")
            except BaseException:  # the model broke off, or nobody reads on
                if pieces:
                    self._keep(pieces)
                raise
            if self.last or pieces:
                self._keep(pieces)
            else:
                self.talk = unless_begun
        if self.last:
            answers.finish(self.engine, self.last, self.settings, said=bool(pieces))
        self._announce()

    def _keep(self, pieces: Sequence[str]) -> None:
        text, model = output.clean("".join(pieces)), self.engine.model
        ending: Ending = self.last.reason if self.last else "cut"
        self.talk = self.talk.answer(text, ending, model)
        self._record("answered", text=text, ending=ending, model=model)

    def _show(self, conversation: Sequence[Message], pieces: list[str]) -> Done:
        start = partial(self.engine.generate, conversation, self.settings.sampling)
        chunks = _heard(start, pieces)
        reasoning = not self.settings.hide_reasoning
        if not self.settings.json:
            return output.stream(chunks, live=self.settings.stream, reasoning=reasoning)[1]
        *said, done = chunks
        assert isinstance(done, Done)  # the contract of Engine.generate
        thoughts = "".join(chunk.text for chunk in said if isinstance(chunk, Thought))
        answer = Answer("".join(pieces), thoughts if reasoning else "", done)
        output.record(answers.record(self.engine, conversation, answer, self.settings))
        return done

    # What has room -----------------------------------------------------------------------------

    @property
    def system(self) -> str | None:
        return self.talk.system

    def used_tokens(self) -> int | None:
        """How long the prompt of what is said is now, as far as the model still sees it."""
        return self._tokens_of(self.talk.turns[self.left_out :])

    def _tokens_of(self, turns: Sequence[Turn]) -> int | None:
        return context.tokens_of(turns, self.system, self.settings, self.engine, self.cost)

    def _fits(self, turns: Sequence[Turn]) -> bool:
        limit = self.engine.context_tokens
        if limit is None or (tokens := self._tokens_of(turns)) is None:
            return True
        return tokens + context.room_for_answer(self.settings, limit) <= limit

    def _fitting(self) -> list[Message]:
        """The conversation as far as there is room for it; says first what there is none for."""
        turns = self.talk.turns
        self.left_out = min(self.left_out, len(turns) - 1)
        more = context.crowded_out(turns[self.left_out :], self._fits)
        if more:
            which = self._names(self.left_out, self.left_out + more)
            output.warn(f"{self._full()}; from here on it does not see {which}")
            self.left_out += more
        said = as_messages(turns[self.left_out :])
        return wording.instructed(said, self.system, self.settings.lang)

    def _announce(self) -> None:
        """Say before the next question that, about what is staged, it costs the oldest turns."""
        turns = [*self.talk.turns[self.left_out :], *self.talk.ask("?").turns[-1:]]
        end = self.left_out + context.crowded_out(turns, self._fits)
        if end > max(self.left_out, self._announced):
            which = self._names(self.left_out, end)
            output.warn(f"{self._full()}; the next question will push out {which}")
        self._announced = end

    def _full(self) -> str:
        return f"the context of {self.engine.model} is full ({self.engine.context_tokens} tokens)"

    def _names(self, start: int, end: int) -> str:
        numbered = list(itertools.islice(enumerate(self.talk.turns, 1), start, end))
        told = [name_of(number, turn) for number, turn in numbered[:_NAMED]]
        if more := len(numbered) - len(told):
            told.append(f"{more} more up to turn {end}")
        return ", ".join(told)

    # Changes -----------------------------------------------------------------------------------

    def take_back(self) -> str:
        """Undo the last thing: what is staged, or else the last turn; returns what it was."""
        if self.talk.staged:
            staged = ", ".join(attaching.displayed(one.name) for one in self.talk.staged)
            self.talk = replace(self.talk, staged=())
            return staged
        if not self.talk.turns:
            raise UsageError("there is nothing to take back")
        name = name_of(len(self.talk.turns), self.talk.turns[-1])
        self._record("taken back")
        self.talk = self.talk.without_last()
        self.left_out = self._announced = 0
        return name

    def switch(self, settings: Settings, engine: Engine) -> None:
        """Let another model answer from here on."""
        self.settings, self.engine = settings, engine
        self.left_out = self._announced = 0
        self._record_settings()

    def instruct(self, system: str | None) -> None:
        """Give the conversation another system message, or none."""
        wording.instructed([], system, None)
        self.talk = replace(self.talk, system=system)
        self._record_settings()

    def start_over(self, talk: Conversation, kept: Transcript) -> None:
        """Go on with another conversation; the one before stays on the disk."""
        self.kept.close()
        self.kept, self.talk, self.unseen = kept, talk, ""
        self.left_out = self._announced = 0

    def keep_all(self) -> None:
        """Put the whole conversation on the disk, as when it comes from elsewhere."""
        for turn in self.talk.turns:
            self._record("asked", content=remembering.to_json(turn.asked.content))
            if turn.ending:
                kept = {"text": turn.answer, "ending": turn.ending, "model": turn.model}
                self._record("answered", **kept)

    def _record_settings(self) -> None:
        if self.kept.path is not None:
            self._record("settings", model=self._model, system=self.system)
        else:
            self.begin()

    def begin(self) -> None:
        """Nothing is written before there is something to keep; then this stands first."""
        self.kept.begin(model=self._model, system=self.system)

    @property
    def _model(self) -> str:
        """What -m has to say to get this model again, from any folder."""
        name = self.settings.model
        if name == names.AUTO:
            return self.engine.model
        folder = names.local_folder(name)
        return str(folder.absolute()) if folder else name

    def _record(self, event: str, **fields: object) -> None:
        try:
            self.kept.add(event, **fields)
        except OutputError as error:  # the conversation goes on, and the user knows
            output.warn(f"this chat is not being kept: {error}")


def _heard(start: Callable[[], Iterator[Chunk]], pieces: list[str]) -> Iterator[Chunk]:
    """The chunks of an answer; the text of it is also put into `pieces`."""
    chunks: Iterator[Chunk] = iter(())
    try:
        with output.status("looking"):
            chunks = start()
            first = next(chunks, None)
        for chunk in itertools.chain([first] if first else [], chunks):
            if isinstance(chunk, Delta):
                pieces.append(chunk.text)
            yield chunk
    finally:
        getattr(chunks, "close", lambda: None)()
