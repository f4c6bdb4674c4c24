"""Answers token by token, one or several side by side: what `generate` does after a prompt was
prepared, for models whose memory is one place a token."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from vlmcli.backends.local import layers, lean
from vlmcli.backends.local.inputs import REFUSALS
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.sampling import ends_of
from vlmcli.backends.local.steps import Forward, Steps, lean_steps

# What these settings of a model ask for is bound to its prompt, or is another loop altogether.
_OTHERWISE = (
    "encoder_repetition_penalty",
    "encoder_no_repeat_ngram_size",
    "guidance_scale",
    "watermarking_config",
    "prefill_chunk_size",
    "penalty_alpha",
    "dola_layers",
    "prompt_lookup_num_tokens",
    "max_time",
    "stop_strings",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One of the answers that are given side by side.

    `take` is given each of its tokens and says whether it is enough; what it raises ends all of
    them. `held_to` changes what may come next; `generator` draws, and greedy answers have none.
    """

    take: Callable[[int], bool]
    most_tokens: int
    held_to: LogitsProcessorList = field(default_factory=LogitsProcessorList)
    generator: torch.Generator | None = None


def suits(model: Any, processor: Processor) -> bool:
    """Whether `answer` gives what `generate` would for this model, with its own settings."""
    settings = model.generation_config
    otherwise = any(getattr(settings, name, None) for name in _OTHERWISE)
    return layers.suits(model, processor) and not otherwise


def answer(
    model: Any, inputs: dict[str, Any], config: GenerationConfig, rows: Sequence[Row]
) -> None:
    """Answer the prompts `inputs`, one for each of `rows`, filled up at their left to one length.

    The cache among the inputs, if there is one, holds afterwards what was read of the answer. How
    long an answer may be is told by its row; the model is one that `suits`.
    """
    table = _Table(rows, [*range(len(rows))], {*range(len(rows))})
    model.generate(
        **inputs,
        generation_config=config,
        logits_processor=[table] if any(row.held_to for row in rows) else [],
        custom_generate=partial(_go, table),
    )


@dataclass(slots=True)
class _Table(LogitsProcessor):  # type: ignore[misc]
    """The answers that are `open`, each at its place among those that are still computed."""

    rows: Sequence[Row]
    places: list[int]
    open: set[int]

    @property
    def generators(self) -> list[torch.Generator | None]:
        return [self.rows[number].generator for number in self.places]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores of each row as what it is held to leaves them."""
        held = []
        for at, number in enumerate(self.places):
            ids, own = input_ids[at : at + 1], scores[at : at + 1]
            if number in self.open:
                own = self.rows[number].held_to(ids, own)
            held.append(own)
        return torch.cat(held)

    def take(self, tokens: list[int], ends: set[int], count: int) -> None:
        """Give each row its token, the last of `count`, and see which end with it."""
        for number, token in zip(self.places, tokens, strict=True):
            if number in self.open:
                row = self.rows[number]
                if row.take(token) or token in ends or count == row.most_tokens:
                    self.open.remove(number)

    def worth_keeping(self) -> list[int] | None:
        """The places of the rows that go on; None if too few have ended to make a copy of them."""
        if len(self.open) > _KEPT * len(self.places):
            return None
        return [at for at, number in enumerate(self.places) if number in self.open]


_KEPT = 0.75
"""Of the rows, how many may be left when those that have ended are dropped."""


def _go(
    table: _Table,
    model: Any,
    input_ids: torch.Tensor,
    logits_processor: Any,
    generation_config: GenerationConfig,
    stopping_criteria: Any = None,
    synced_gpus: bool = False,
    **inputs: Any,
) -> None:
    """In the place of `generate`'s own loop, which calls it with all that it has prepared."""
    ends = set(ends_of(generation_config))
    steps = _Stepper(model, Forward(model, inputs))
    length = input_ids.shape[1]
    room = max(row.most_tokens for row in table.rows)
    ids = torch.nn.functional.pad(input_ids, (0, room))
    logits = steps.read(input_ids)
    try:
        for count in range(1, room + 1):
            scores = logits_processor(ids[:, :length], logits.to(torch.float32, copy=True))
            tokens = _chosen(scores, table.generators)
            ids[:, length] = tokens
            length += 1
            table.take(tokens.tolist(), ends, count)
            if not table.open:
                return
            if steps.can_drop and (kept := table.worth_keeping()) is not None:
                ids = ids[kept]
                table.places = [table.places[at] for at in kept]
                steps.keep(torch.tensor(kept, device=ids.device))
            logits = steps.step(ids[:, :length])
    finally:
        steps.finish()


def _chosen(scores: torch.Tensor, generators: Sequence[torch.Generator | None]) -> torch.Tensor:
    """The next token of each row: drawn by its generator, or the likeliest."""
    if generators[0] is None:
        return scores.argmax(dim=-1)
    drawn = [
        torch.multinomial(chances, 1, generator=generator)
        for chances, generator in zip(scores.softmax(dim=-1), generators, strict=True)
    ]
    return torch.cat(drawn)


class _Stepper:
    """Steps that are lean as soon as the model's own forward has said the same."""

    def __init__(self, model: Any, forward: Forward) -> None:
        self._model, self._forward = model, forward
        self._steps: Steps | None = None
        self._own = False

    @property
    def can_drop(self) -> bool:
        return self._steps is not None

    def read(self, ids: torch.Tensor) -> torch.Tensor:
        return self._forward.read(ids)

    def step(self, ids: torch.Tensor) -> torch.Tensor:
        if self._steps is not None:
            return self._steps.step(ids[:, -1])
        if self._own or (plan := lean.of(self._model)) is None:
            return self._forward.step(ids)
        steps = lean_steps(plan, self._forward, ids)
        if steps is None:
            self._own = True
            return self._forward.step(ids)
        if steps.masked in plan.trusted:
            self._take(steps)
            return steps.step(ids[:, -1])
        try:
            logits = steps.step(ids[:, -1])
        except REFUSALS:
            logits = None
        own = self._forward.step(ids)
        if logits is not None and plan.agrees(logits, own, masked=steps.masked):
            self._take(steps)
        else:
            self._own = True
            lean.distrust(self._model)
        return own

    def _take(self, steps: Steps) -> None:
        self._steps = steps
        steps.give_back()  # so that the prompt is not held twice

    def keep(self, rows: torch.Tensor) -> None:
        assert self._steps is not None  # see can_drop
        self._steps.keep(rows)

    def finish(self) -> None:
        if self._steps is not None:
            self._steps.give_back()
