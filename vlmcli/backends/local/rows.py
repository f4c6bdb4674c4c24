"""A batch of prompts -> their answers: each row ends when its own is complete."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor
from transformers.generation.streamers import BaseStreamer

from vlmcli.backends.local import decode
from vlmcli.backends.local.batching import Batch, Check
from vlmcli.backends.local.decode import Finished, Sink
from vlmcli.backends.local.inputs import Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.sampling import generation_config, has_ended
from vlmcli.backends.local.thoughts import Piece
from vlmcli.messages import Answer, Delta, Done, Sampling, Thought


def answer(
    model: Any, processor: Processor, sampling: Sampling, batch: Batch, check: Check | None
) -> list[Answer]:
    """The answers to prompts that have room for equally many tokens. Raises what `check` does."""
    started = time.perf_counter()
    config = generation_config(model, processor, batch.prompts[0], sampling)
    texts: list[list[Piece]] = [[] for _ in batch.prompts]
    sinks = [
        decode.sink_of(processor, one, sampling, config, pieces.append)
        for one, pieces in zip(batch.prompts, texts, strict=True)
    ]
    # The check first: it knows what is said without a schema.
    held_to: list[LogitsProcessor] = [] if check is None else [check]
    if sampling.schema is not None:
        held_to.append(_Constraints(sinks))
    with suppress(Finished):
        model.generate(
            **decode.on_device(batch.inputs, model),
            generation_config=config,
            **({"logits_processor": held_to} if held_to else {}),
            streamer=_Sinks(sinks, config),
        )
    for sink in sinks:
        sink.flush()
    ended = time.perf_counter()
    return [
        answer_of(pieces, _done_of(one, sink, config, started, ended, len(sinks)))
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


def answer_of(pieces: Sequence[Piece], done: Done) -> Answer:
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
