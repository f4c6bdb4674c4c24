"""Many conversations, answered side by side as far as the memory goes; the others one by one."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from threading import Lock
from typing import Any, Generic, TypeVar

import torch
from transformers import GenerationConfig, LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from vlmcli import device as devices
from vlmcli.backends import Prepared
from vlmcli.backends.local import batching, decode, likelihood, prompt, room
from vlmcli.backends.local.batching import Batch, Check, DiffersError
from vlmcli.backends.local.cache import Memory
from vlmcli.backends.local.decode import Finished, Sink
from vlmcli.backends.local.inputs import REFUSALS, Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.sampling import generation_config, has_ended
from vlmcli.backends.local.thoughts import Piece
from vlmcli.errors import VlmError
from vlmcli.messages import Answer, Delta, Done, Message, Sampling, Thought, Verdict, outlined

T = TypeVar("T")

MOST_ON_CPU, MOST_ON_GPU = 16, 64
_SHARE_OF_FREE = 0.5
"""Of the memory that is free: what a row takes is known only roughly."""


@dataclass(frozen=True, slots=True)
class _Way(Generic[T]):
    """One of the things that are done with a prompt: alone, or with others side by side.

    `ready` is what comes before `together`, which gives None for a row that is to be done alone;
    it is None itself where nothing can be done together. Its answers have `new_tokens` at most.
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
    busy: Lock
    explaining: Callable[[], AbstractContextManager[None]]
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
        way = _Way(
            sampling,
            partial(self._answer, sampling),
            partial(self._answer_together, sampling) if sampling.temperature == 0 else None,
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
            half = self._rows = len(prompts) // 2
            yield from self._done(prompts[:half], way)
            yield from self._done(prompts[half:], way)
            return
        for one, result in zip(prompts, found, strict=True):
            if result is None:
                yield self._alone(one, way.alone)
            else:
                yield result

    def _tried(self, batch: Batch, way: _Way[T]) -> Sequence[T | None] | None:
        """The results of a batch, none if this model does not do it; None if it has no room.

        What fails for whatever reason is tried once more alone, where it fails as it should.
        """
        assert way.together is not None
        nothing: list[T | None] = [None] * len(batch.prompts)
        try:
            with self.busy, torch.inference_mode():
                check = None
                if batch.filled not in way.proven:
                    config = self._config(batch.prompts[0], way.sampling)
                    check = batching.check_of(self.model, batch, config)
                found = way.together(batch, check)
        except (DiffersError, VlmError, MemoryError, AttributeError, *REFUSALS) as error:
            if devices.is_out_of_memory(error):
                return None
            way.proven[batch.filled] = False
            return nothing
        way.proven[batch.filled] = True
        return found

    def _alone(self, one: Prompt, answer: Callable[[Prompt], T]) -> T | VlmError:
        try:
            with self.explaining(), self.busy:
                return answer(one)
        except VlmError as error:
            return error

    def _answer(self, sampling: Sampling, one: Prompt) -> Answer:
        pieces: list[Piece] = []
        done = decode.generate_text(self.model, self.processor, one, sampling, pieces.append)
        return _answer_of(pieces, done)

    def _affirm(self, one: Prompt) -> Verdict:
        memory = Memory(self.model, self.processor)
        return likelihood.affirm(self.model, self.processor, one, memory)

    def _answer_together(
        self, sampling: Sampling, batch: Batch, check: Check | None
    ) -> list[Answer]:
        started = time.perf_counter()
        config = self._config(batch.prompts[0], sampling)
        texts: list[list[Piece]] = [[] for _ in batch.prompts]
        sinks = [
            decode.sink_of(self.processor, one, sampling, config, pieces.append)
            for one, pieces in zip(batch.prompts, texts, strict=True)
        ]
        # The check first: it knows what is said without a schema.
        held_to: list[LogitsProcessor] = [] if check is None else [check]
        if sampling.schema is not None:
            held_to.append(_Constraints(sinks))
        with suppress(Finished):
            self.model.generate(
                **decode.on_device(batch.inputs, self.model),
                generation_config=config,
                **({"logits_processor": held_to} if held_to else {}),
                streamer=_Sinks(sinks, config),
            )
        for sink in sinks:
            sink.flush()
        ended = time.perf_counter()
        return [
            _answer_of(pieces, _done_of(one, sink, config, started, ended, len(sinks)))
            for one, sink, pieces in zip(batch.prompts, sinks, texts, strict=True)
        ]


class _Sinks(BaseStreamer):  # type: ignore[misc]
    """What `generate` hands a token of each row to, until every row has ended."""

    def __init__(self, sinks: Sequence[Sink], config: GenerationConfig) -> None:
        self._sinks, self._config = sinks, config
        self._prompt_came = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_came:
            self._prompt_came = True
            return
        going_on = False
        for sink, token in zip(self._sinks, value.flatten().tolist(), strict=True):
            if sink.reason is not None or has_ended(sink.ids, self._config):
                continue
            with suppress(Finished):
                sink.take(token)
                going_on = going_on or not has_ended(sink.ids, self._config)
        if not going_on:
            raise Finished

    def end(self) -> None:
        """Nothing is left to be done: `flush` is called for each sink."""


class _Constraints(LogitsProcessor):  # type: ignore[misc]
    """Each row held to the schema by a constraint of its own, until it has ended."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = sinks

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        held = scores.clone()
        for n, sink in enumerate(self._sinks):
            if sink.reason is None and sink.constraint is not None:
                held[n : n + 1] = sink.constraint(input_ids[n : n + 1], scores[n : n + 1])
        return held


def _answer_of(pieces: Sequence[Piece], done: Done) -> Answer:
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    return Answer("".join(p.text for p in pieces if isinstance(p, Delta)), thoughts, done)


def _done_of(
    one: Prompt, sink: Sink, config: GenerationConfig, started: float, ended: float, rows: int
) -> Done:
    return Done(
        reason=sink.reason or decode.reason_of(sink.ids, config),
        prompt_tokens=one.prompt_tokens,
        image_tokens=one.image_tokens,
        new_tokens=len(sink.ids),
        seconds_to_first_token=(sink.first_token_at or ended) - started,
        seconds=ended - started,
        together=rows,
    )
