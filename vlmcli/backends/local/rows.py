"""A batch of prompts -> their answers: each row ends when its own is complete."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer

from vlmcli.backends.local import decode
from vlmcli.backends.local.batching import Batch, Check
from vlmcli.backends.local.decode import Finished, Sink
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.sampling import has_ended
from vlmcli.backends.local.thoughts import Piece
from vlmcli.messages import Answer, Delta, Done, Sampling, Thought


def answer(
    model: Any, processor: Processor, sampling: Sampling, batch: Batch, check: Check | None
) -> list[Answer]:
    """The answers to prompts that have room for equally many tokens. Raises what `check` does."""
    texts: list[list[Piece]] = [[] for _ in batch.prompts]
    emits = [pieces.append for pieces in texts]
    if decode.loops_here(model, processor):
        watches = {} if check is None else {check.row: check.of_row()}
        dones = decode.generate_texts(
            model, processor, batch.prompts, batch.inputs, sampling, emits, watches
        )
    else:
        dones = _by_generate(model, processor, sampling, batch, emits, check)
    return [
        answer_of(pieces, replace(done, together=len(dones)))
        for pieces, done in zip(texts, dones, strict=True)
    ]


def _by_generate(
    model: Any,
    processor: Processor,
    sampling: Sampling,
    batch: Batch,
    emits: Sequence[Callable[[Piece], None]],
    check: Check | None,
) -> list[Done]:
    started = time.perf_counter()
    answers = [
        decode.begin(model, processor, one, sampling, emit)
        for one, emit in zip(batch.prompts, emits, strict=True)
    ]
    config = answers[0].config
    # The check first: it knows what is said without a schema.
    held_to: list[LogitsProcessor] = [] if check is None else [check]
    if sampling.schema is not None:
        held_to.append(_Constraints([answer.sink for answer in answers]))
    with suppress(Finished):
        model.generate(
            **decode.on_device(batch.inputs, model),
            generation_config=config,
            logits_processor=LogitsProcessorList(held_to),
            streamer=_Sinks([answer.sink for answer in answers], config),
        )
    for one in answers:
        one.sink.flush()
    ended = time.perf_counter()
    return [one.done(started, ended) for one in answers]


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
            enough = sink.take(token)
            going_on = going_on or not (enough or has_ended(sink.ids, self._config))
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


def answer_of(pieces: Sequence[Piece], done: Done) -> Answer:
    thoughts = "".join(piece.text for piece in pieces if isinstance(piece, Thought))
    return Answer("".join(p.text for p in pieces if isinstance(p, Delta)), thoughts, done)
