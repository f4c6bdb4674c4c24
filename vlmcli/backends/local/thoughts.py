"""What a reasoning model thinks before it answers, told apart from the answer."""

from dataclasses import dataclass
from typing import Any, Literal

from vlmcli.backends.local.chat import template_of
from vlmcli.backends.local.inputs import Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.messages import Delta, Thought

Piece = Delta | Thought


@dataclass(frozen=True, slots=True)
class Marks:
    """What stands around the thoughts, as text."""

    opening: str
    closing: str


# Qwen, GLM, DeepSeek; Kimi; Mistral; Gemma 4.
ALL_MARKS = (
    Marks("<think>", "</think>"),
    Marks("◁think▷", "◁/think▷"),
    Marks("[THINK]", "[/THINK]"),
    Marks("<|channel>thought", "<channel|>"),
)


class Thoughts:
    """Text in, thoughts and answer out, however the text is cut into pieces.

    Thoughts come first or not at all: marks further on are what the answer is about. `opened` are
    those of a prompt that ends with the opening mark.
    """

    def __init__(self, marks: tuple[Marks, ...], opened: Marks | None = None) -> None:
        self._marks = marks
        self._opened = opened
        self._begun = not marks
        self._held = ""

    @property
    def state(self) -> Literal["open", "thought", "answer"]:
        """What the next text is a part of; "open" where it can still begin as thoughts."""
        if self._opened is not None:
            return "thought"
        return "answer" if self._begun else "open"

    def takes(self, token: str) -> bool:
        """Whether a special token is (part of) a mark that may come now."""
        if self._opened is not None and token in self._opened.closing:
            return True
        return not self._begun and any(token in marks.opening for marks in self._marks)

    def push(self, text: str) -> list[Piece]:
        self._held += text
        if not self._begun and not self._begin():
            return []
        pieces: list[Piece] = []
        if self._opened is not None:
            thought, closed, rest = self._held.partition(self._opened.closing)
            if not closed:
                keep = overlap(thought, self._opened.closing)
                thought, rest = thought[: len(thought) - keep], thought[len(thought) - keep :]
            pieces, self._held = [Thought(thought)], rest
            if not closed:
                return pieces
            self._opened = None
        answer, self._held = self._held, ""
        return [*pieces, Delta(answer)]

    def flush(self) -> list[Piece]:
        rest, self._held = self._held, ""
        return [Delta(rest) if self._opened is None else Thought(rest)]

    def _begin(self) -> bool:
        """Whether it is clear how the text begins; an opening mark is taken off it.

        Some models say the mark once more that their prompt ended with.
        """
        text = self._held.lstrip()
        for marks in self._marks:
            if text.startswith(marks.opening):
                self._opened, self._held, self._begun = marks, text[len(marks.opening) :], True
                return True
        self._begun = not any(marks.opening.startswith(text) for marks in self._marks)
        return self._begun


def overlap(text: str, mark: str) -> int:
    """How many of the last characters of `text` are the first ones of `mark`, but not all."""
    longest = min(len(mark) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(mark[:n])), 0)


def marks_of(processor: Processor, prompt: Prompt) -> tuple[tuple[Marks, ...], Marks | None]:
    """The marks that may stand around thoughts in the answer, and those that the prompt opens.

    Marks are those that the model's tokenizer or chat template knows, and those that the prompt
    asks for by name. The template alone opens thoughts: a question may end with anything.
    """
    known = "\n".join([template_of(processor) or "", *_added(processor).values()])
    own = [marks for marks in ALL_MARKS if marks.closing in known]
    asked = [marks for marks in ALL_MARKS if marks.closing in prompt.text]
    end = prompt.text.rstrip()
    opened = next((marks for marks in own if end.endswith(marks.opening)), None)
    return tuple(dict.fromkeys([*own, *asked])), opened


def special_marks(processor: Processor) -> dict[int, str]:
    """The special tokens, by id, that marks are made of: decoding leaves them out elsewhere."""
    special: dict[int, Any] = processor.tokenizer.added_tokens_decoder
    parts = [part for marks in ALL_MARKS for part in (marks.opening, marks.closing)]
    return {
        number: text
        for number, text in _added(processor).items()
        if special[number].special and len(text) > 1 and any(text in part for part in parts)
    }


def _added(processor: Processor) -> dict[int, str]:
    return {n: token.content for n, token in processor.tokenizer.added_tokens_decoder.items()}
