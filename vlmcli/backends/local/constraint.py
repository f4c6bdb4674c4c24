"""An answer that is held to a JSON schema: at each step only tokens that it can go on with.

What a reasoning model thinks first is free; the schema begins where the answer does.
"""

from collections.abc import Iterator, Sequence

import torch
from llguidance import LLMatcher
from transformers import LogitsProcessor

from vlmcli import schemas
from vlmcli.backends.local import vocabulary
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.thoughts import Marks, Thoughts
from vlmcli.errors import ModelError

_BITS = torch.arange(8, dtype=torch.uint8)


class Constraint(LogitsProcessor):  # type: ignore[misc]
    """Masks what cannot come next. It is told of each token, after `thoughts` was.

    `marks` are those that may stand around thoughts, `ends` the tokens that end an answer. Raises
    ModelError for a tokenizer that it cannot read.
    """

    def __init__(
        self,
        processor: Processor,
        schema: str,
        thoughts: Thoughts,
        marks: Sequence[Marks],
        ends: Sequence[int],
    ) -> None:
        self._name = processor.name
        self._tokens = vocabulary.reader(processor, ends)
        self._grammar = schemas.grammar(schema)
        self._matcher: LLMatcher | None = self._begin()
        self._thoughts, self._state = thoughts, thoughts.state
        self._openings = [marks_.opening.encode() for marks_ in marks]
        self._texts = vocabulary.texts(processor) if marks else {}
        self._said = b""
        self._ends = list(ends)

    def _begin(self) -> LLMatcher:
        return LLMatcher(self._tokens, self._grammar, log_level=0)

    @property
    def complete(self) -> bool:
        """Whether all is said, and nothing more can come."""
        return self._state == "answer" and self._matcher is not None and self._matcher.is_stopped()

    def take(self, token: int) -> None:
        """Go on by a token that was said."""
        before, self._state = self._state, self._thoughts.state
        if "thought" in (before, self._state):
            self._matcher = self._begin()  # where the answer will begin
            return
        self._said += self._tokens.decode_bytes([token])
        if self._matcher is not None and not self._matcher.consume_token(token):
            self._matcher = None  # the beginning of a mark

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        allowed = torch.zeros(scores.shape[-1], dtype=torch.bool)
        if self._state == "thought":
            allowed = ~allowed
            allowed[self._ends] = False  # the answer is still to come
        elif self._matcher is not None:
            allowed = _bits(self._mask(self._matcher), len(allowed))
        if self._state == "open":
            allowed[list(self._marking())] = True
        masked = scores.masked_fill(~allowed.to(scores.device), -torch.inf)
        if not masked.isfinite().any():  # the model's settings forbid all that can come
            masked = torch.zeros_like(scores).masked_fill(~allowed.to(scores.device), -torch.inf)
        return masked

    def _mask(self, matcher: LLMatcher) -> bytes:
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            raise ModelError(
                f"{self._name} cannot be held to the schema: {matcher.get_error()}"[:300],
                hint="make the schema simpler",
            )
        return mask

    def _marking(self) -> Iterator[int]:
        """The tokens that a mark of thoughts can begin with, or go on with."""
        said = self._said.lstrip()
        for opening in self._openings:
            rest = opening[len(said) :]
            if opening.startswith(said):
                for length in range(1, len(rest) + 1):
                    yield from self._texts.get(rest[:length], ())


def _bits(mask: bytes, count: int) -> torch.Tensor:
    """The first `count` bits of a mask; it may be shorter than the vocabulary, or longer."""
    octets = torch.frombuffer(bytearray(mask), dtype=torch.uint8)
    bits = (octets[:, None] >> _BITS & 1).flatten().bool()[:count]
    return torch.nn.functional.pad(bits, (0, count - len(bits)))
