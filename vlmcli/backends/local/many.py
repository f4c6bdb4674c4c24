"""Many conversations, answered side by side as far as the memory goes; the others one by one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from transformers import GenerationConfig

from vlmcli import device as devices
from vlmcli import phases
from vlmcli.backends import Prepared
from vlmcli.backends.local import batching, decode, likelihood, prompt, room, rows
from vlmcli.backends.local.batching import Batch, Check, DiffersError
from vlmcli.backends.local.cache import Memory
from vlmcli.backends.local.features import Features
from vlmcli.backends.local.inputs import REFUSALS, Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.rows import answer_of
from vlmcli.backends.local.sampling import LEAST_TEMPERATURE, generation_config
from vlmcli.backends.local.thoughts import Piece
from vlmcli.cpu import worker
from vlmcli.errors import VlmError
from vlmcli.messages import Answer, Message, Sampling, Verdict, outlined

T = TypeVar("T", Answer, Verdict)

MOST_ON_CPU, MOST_ON_GPU = 16, 64
_SHARE_OF_FREE = 0.5
"""Of the memory that is free: what a row takes is known only roughly."""


@dataclass(frozen=True, slots=True)
class _Way(Generic[T]):
    """One of the things that are done with a prompt: alone, or with others side by side.

    `ready` is what comes before `together`, which gives None for a row that is to be done alone;
    it is None itself where nothing can be done together. `proven` says of which inputs, where some
    row was filled up, it was found right.
    """

    sampling: Sampling
    alone: Callable[[Prompt], T]
    together: Callable[[Batch, Check | None], Sequence[T | None]] | None
    ready: Callable[[Prompt], Prompt] = field(default=lambda one: one)
    proven: dict[frozenset[str], bool] = field(default_factory=dict)


@dataclass(slots=True)
class Many:
    """What one loaded model has shown of how many rows it takes, and of which kinds."""

    model: Any
    processor: Processor
    device: str
    explaining: Callable[[], AbstractContextManager[None]]
    seen: Features
    _rows: int = field(default=MOST_ON_GPU, init=False)  # that the memory was enough for
    _proven: dict[str, dict[frozenset[str], bool]] = field(default_factory=dict, init=False)

    @property
    def most(self) -> int:
        return MOST_ON_CPU if self.device == "cpu" else MOST_ON_GPU

    def prepare(self, conversation: Sequence[Message]) -> Prepared:
        """As Engine.prepare."""
        made = prompt.prepare(self.processor, conversation)
        return Prepared(outlined(conversation), made, room.nbytes(made))

    def generate(
        self, conversations: Iterable[Sequence[Message]], sampling: Sampling
    ) -> Iterator[Answer | VlmError]:
        """As Engine.generate_many. What is drawn at random is drawn one by one: no answer may
        depend on those beside it."""
        if sampling.schema is not None:
            prompt.check_answers(self.processor)
        together = partial(rows.answer, self.model, self.processor, sampling)
        way = _Way(
            sampling,
            partial(self._answer, sampling),
            together if sampling.temperature < LEAST_TEMPERATURE else None,
            proven=self._proven.setdefault("generate", {}),
        )
        return self._each(conversations, way)

    def affirm(self, conversations: Iterable[Sequence[Message]]) -> Iterator[Verdict | VlmError]:
        """As Engine.affirm_many."""
        prompt.check_answers(self.processor)
        weigh = partial(likelihood.affirm_together, self.model, self.processor)
        way = _Way(
            Sampling(max_tokens=1),
            self._affirm,
            weigh if likelihood.has_words(self.processor) else None,
            partial(likelihood.past_thoughts, self.processor),
            self._proven.setdefault("affirm", {}),
        )
        return self._each(conversations, way)

    # Which rows go together ---------------------------------------------------------------------

    def _each(
        self, conversations: Iterable[Sequence[Message]], way: _Way[T]
    ) -> Iterator[T | VlmError]:
        coming = iter(conversations)
        waiting: deque[Prompt | VlmError] = deque()
        while True:
            more = islice(coming, max(0, MOST_ON_GPU - len(waiting)))
            waiting.extend(self._prompt(conversation) for conversation in more)
            if not waiting:
                return
            first = waiting.popleft()
            if isinstance(first, VlmError):
                yield first
            else:
                yield from self._done(self._with_others(first, waiting, way), way)

    def _prompt(self, conversation: Sequence[Message]) -> Prompt | VlmError:
        if isinstance(conversation, Prepared) and isinstance(conversation.inputs, Prompt):
            return conversation.inputs
        try:
            return prompt.prepare(self.processor, conversation)
        except VlmError as error:
            return error

    def _with_others(
        self, first: Prompt, waiting: deque[Prompt | VlmError], way: _Way[T]
    ) -> list[Prompt]:
        """The first, and of those waiting as many as have room beside it."""
        prompts = [first]
        if not waiting or way.together is None or not self._suits(first, way.sampling):
            return prompts
        free = _SHARE_OF_FREE * devices.free_bytes(self.device) - self._bytes(first, way.sampling)
        while waiting and len(prompts) < self._rows:
            other = waiting[0]
            if isinstance(other, VlmError) or not self._suits(other, way.sampling):
                break
            free -= self._bytes(other, way.sampling)
            if free < 0:
                break
            prompts.append(other)
            waiting.popleft()
        return prompts

    def _bytes(self, one: Prompt, sampling: Sampling) -> int:
        return room.row_bytes(self.model.config, self.model.dtype, one, sampling.max_tokens)

    def _suits(self, one: Prompt, sampling: Sampling) -> bool:
        """Whether nothing that ends or forbids a token would count what a row is filled up with."""
        config = self._config(one, sampling)
        counted = config.no_repeat_ngram_size or config.min_length
        return config.max_new_tokens == sampling.max_tokens and (
            self.model.config.is_encoder_decoder or not counted
        )

    def _config(self, one: Prompt, sampling: Sampling) -> GenerationConfig:
        return generation_config(self.model, self.processor, one, sampling)

    # What is done with them ---------------------------------------------------------------------

    def _done(self, prompts: Sequence[Prompt], way: _Way[T]) -> Iterator[T | VlmError]:
        batch = None
        if way.together is not None and len(prompts) > 1:
            batch = batching.joined(self.model, self.processor, [way.ready(p) for p in prompts])
        found: Sequence[T | None] | None = [None] * len(prompts)
        if batch is not None and way.proven.get(batch.filled, True):
            found = self._tried(batch, way)
        if found is None:
            devices.release()
            self._rows = len(prompts) // 2
            rest = prompts
            while rest:
                some, rest = rest[: self._rows], rest[self._rows :]
                yield from self._done(some, way)
            return
        for one, result in zip(prompts, found, strict=True):
            if result is None:
                yield self._alone(one, way.alone)
            else:
                yield _timed(result)

    def _tried(self, batch: Batch, way: _Way[T]) -> Sequence[T | None] | None:
        """The results of a batch, none if this model does not do it; None if it has no room.

        What fails for whatever reason is tried once more alone, where it fails as it should.
        """
        nothing: list[T | None] = [None] * len(batch.prompts)
        try:
            found = worker.do(partial(self._together, batch, way))
        except (DiffersError, VlmError, MemoryError, AttributeError, *REFUSALS) as error:
            if devices.is_out_of_memory(error):
                return None
            way.proven[batch.filled] = False
            return nothing
        way.proven[batch.filled] = True
        return found

    def _together(self, batch: Batch, way: _Way[T]) -> Sequence[T | None]:
        assert way.together is not None
        with torch.inference_mode():
            check = None
            if batch.filled not in way.proven:
                config = self._config(batch.prompts[0], way.sampling)
                check = batching.check_of(self.model, batch, config)
            if self.device != "cpu" or batch.filled_views:
                return way.together(batch, check)
            # On a CPU pictures one by one take no longer, and those that are known nothing.
            views = [count for one in batch.prompts for count in one.views]
            with self.seen.answering(views, len(batch.prompts)):
                return way.together(batch, check)

    def _alone(self, one: Prompt, answer: Callable[[Prompt], T]) -> T | VlmError:
        try:
            with self.explaining():
                return _timed(worker.do(partial(answer, one)))
        except VlmError as error:
            return error

    def _answer(self, sampling: Sampling, one: Prompt) -> Answer:
        pieces: list[Piece] = []
        with self.seen.answering(one.views) as told:
            done = decode.generate_text(self.model, self.processor, one, sampling, pieces.append)
        return answer_of(pieces, told(done))

    def _affirm(self, one: Prompt) -> Verdict:
        memory = Memory(self.model, self.processor)
        with self.seen.answering(one.views) as told:
            verdict = likelihood.affirm(self.model, self.processor, one, memory)
        return replace(verdict, done=told(verdict.done))


def _timed(result: T) -> T:
    """With what there was to do since the answer before it; of a batch that is the first one's."""
    return replace(result, done=replace(result.done, phases=phases.take()))
