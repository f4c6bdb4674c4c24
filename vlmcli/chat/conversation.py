"""A conversation as data: nothing of it changes, each step makes a new one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vlmcli.errors import shown
from vlmcli.messages import Image, Message, Part, Text, Video, user

Ending = Literal["stop", "length", "loop", "cut", ""]
Seen = Image | Video

_NAME_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Turn:
    """A question with all that was shown beside it, and its answer as far as that came.

    `ending` is "" as long as there is none, and "cut" after a Ctrl-C. `model` is what answered.
    """

    asked: Message
    answer: str = ""
    ending: Ending = ""
    model: str = ""

    @property
    def words(self) -> str:
        return "\n".join(self.asked.texts)

    @property
    def seen(self) -> tuple[Seen, ...]:
        return tuple(part for part in self.asked.content if not isinstance(part, Text))


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said so far; `staged` is what the next question will be about."""

    system: str | None = None
    turns: tuple[Turn, ...] = ()
    staged: tuple[Seen, ...] = ()

    @property
    def seen(self) -> tuple[Seen, ...]:
        return tuple(one for turn in self.turns for one in turn.seen)

    @property
    def size(self) -> str:
        """How much there is of it, in words."""
        pictures = sum(isinstance(one, Image) for one in self.seen)
        counts = [(len(self.turns), "turn"), (pictures, "picture")]
        counts += [(len(self.seen) - pictures, "clip")] if len(self.seen) > pictures else []
        return ", ".join(f"{n} {noun}{'' if n == 1 else 's'}" for n, noun in counts)

    def stage(self, seen: Sequence[Seen]) -> "Conversation":
        return replace(self, staged=(*self.staged, *seen))

    def ask(self, words: str) -> "Conversation":
        """With a question about all that is staged."""
        return replace(self, turns=(*self.turns, Turn(user(words, self.staged))), staged=())

    def answer(self, text: str, ending: Ending, model: str) -> "Conversation":
        """With the last question answered, or answered anew."""
        *before, last = self.turns
        return replace(
            self, turns=(*before, replace(last, answer=text, ending=ending, model=model))
        )

    def without_last(self) -> "Conversation":
        return replace(self, turns=self.turns[:-1])

    def unanswered(self) -> "Conversation":
        """With the last question open."""
        return self.answer("", "", "")


def as_messages(turns: Sequence[Turn]) -> list[Message]:
    """What a model is given of the turns.

    Questions without an answer are asked together with the one after them: templates want a
    question and an answer by turns, and nothing that was shown must be lost.
    """
    said: list[Message] = []
    waiting: tuple[Part, ...] = ()
    for turn in turns:
        waiting = (*_with_newline(waiting), *turn.asked.content)
        if turn.answer:
            said += [Message("user", waiting), Message("assistant", (Text(turn.answer),))]
            waiting = ()
    return [*said, Message("user", waiting)] if waiting else said


def _with_newline(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    if not parts or not isinstance(last := parts[-1], Text):
        return parts
    return (*parts[:-1], replace(last, text=f"{last.text}\n"))


def name_of(number: int, turn: Turn) -> str:
    """How a turn is called, for the user to know which one is meant; `number` counts from 1."""
    words = " ".join(turn.words.split())
    if len(words) > _NAME_CHARACTERS:
        words = f"{words[: _NAME_CHARACTERS - 1].rstrip()}…"
    said = [f"“{words}”"] if words else []
    return f"turn {number} ({', '.join([*said, *(short_name(one) for one in turn.seen)])})"


def short_name(seen: Seen) -> str:
    """The last part of a path or an address."""
    name = shown(seen.name)
    return name.rstrip("/").rpartition("/")[2] or name
