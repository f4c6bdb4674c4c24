"""Several prompts as one, a row each; and the proof that each row is answered as if it were alone.

Whether a model can do that is told by no list of names. The inputs that its processor makes of each
prompt are put side by side: what has a place for each token is filled up on the side of its start,
and what is smaller than that of another row with zeros, as processors themselves do it. The first
batch in which other inputs than before had to be filled up is then checked against one of its rows
alone, over the first tokens. What cannot be put side by side, or is answered otherwise there, is
answered one by one.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor

from vlmcli.backends.local import room
from vlmcli.backends.local.decode import on_device
from vlmcli.backends.local.inputs import Prompt
from vlmcli.backends.local.kernels import PackedLinear
from vlmcli.backends.local.processors import Processor

_CHECKED_TOKENS = 3
_ROUNDING = 0.001
_ROUGHLY = 0.05
"""Of the largest logit, in 16 bits or with quantized weights: products of another shape add up
otherwise. SmolVLM-256M is off by 0.025 in bfloat16, and by 0.4 and more where the rows are not told
what was filled up; the builtin in eight bits by 0.01, and by 0.11."""


class DiffersError(Exception):
    """A row of a batch is not answered as it is alone."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Prompts side by side, and the names of the inputs of which some row was filled up."""

    prompts: Sequence[Prompt]
    inputs: dict[str, Any]
    filled: frozenset[str] = field(default=frozenset())

    @property
    def filled_views(self) -> bool:
        """Whether more was filled up than what has a place for each token."""
        ids = self.inputs.get("input_ids")
        return any(ids is None or self.inputs[x].shape[:2] != ids.shape for x in self.filled)


def joined(model: Any, processor: Processor, prompts: Sequence[Prompt]) -> Batch | None:
    """The prompts as one; None if their inputs are not of one kind."""
    names = prompts[0].inputs.keys()
    filled: set[str] = set()
    inputs: dict[str, Any] = {}
    for name in names:
        values: list[Any] = [prompt.inputs.get(name) for prompt in prompts]
        if any(prompt.inputs.keys() != names for prompt in prompts) or not all(
            isinstance(v, torch.Tensor) and v.ndim and v.ndim == values[0].ndim for v in values
        ):
            return None
        fills = [_fill_of(processor, prompt, name) for prompt in prompts]
        if None not in fills:
            values = _filled_rows(values, fills, left=not model.config.is_encoder_decoder)
        values = _filled_up(values)
        if any(v is not p.inputs[name] for v, p in zip(values, prompts, strict=True)):
            filled.add(name)
        inputs[name] = torch.cat(values)
    return Batch(prompts, inputs, frozenset(filled))


def _fill_of(processor: Processor, prompt: Prompt, name: str) -> int | None:
    """What an input with a place for each token is filled up with; None for another input.

    A mask says that it is not to be seen. It is a token of the prompt itself, so that a penalty on
    what was said already counts nothing that is not there alone.
    """
    ids, value = prompt.inputs.get("input_ids"), prompt.inputs[name]
    if ids is None or ids.shape[0] != 1 or value.shape[:2] != ids.shape:
        return None
    if name != "input_ids":
        return 0
    seen = (processor.image_token_id, processor.video_token_id)
    return next((int(token) for token in reversed(ids[0].tolist()) if token not in seen), 0)


def _filled_rows(values: list[Any], fills: list[Any], *, left: bool) -> list[Any]:
    longest = max(value.shape[1] for value in values)
    result = []
    for value, fill in zip(values, fills, strict=True):
        if count := longest - value.shape[1]:
            more = value.new_full((1, count, *value.shape[2:]), fill)
            value = torch.cat([more, value] if left else [value, more], dim=1)
        result.append(value)
    return result


def _filled_up(values: list[Any]) -> list[Any]:
    """Each as large as the largest, but for the first axis, along which they are joined."""
    shape = [max(sizes) for sizes in zip(*(value.shape[1:] for value in values), strict=True)]
    result = []
    for value in values:
        if [*value.shape[1:]] != shape:
            small, value = value, value.new_zeros((value.shape[0], *shape))
            value[(slice(None), *(slice(0, size) for size in small.shape[1:]))] = small
        result.append(value)
    return result


class Check(LogitsProcessor):  # type: ignore[misc]
    """Compares one row of a batch with what was said of it alone; raises DiffersError."""

    def __init__(self, row: int, alone: Sequence[torch.Tensor], rounding: float) -> None:
        self.row, self._alone, self._rounding = row, alone, rounding
        self._start: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._start is None:
            self._start = input_ids.shape[1]
        said = input_ids[self.row, self._start :].tolist()
        expected = [int(step.argmax()) for step in self._alone]
        # Another token, as likely but for a rounding or held to a schema, leads elsewhere.
        if len(said) < len(expected) and said == expected[: len(said)]:
            self._check_alike(scores[self.row], self._alone[len(said)])
        return scores

    def of_row(self) -> "Check":
        """The same for what is given that row alone."""
        return Check(0, self._alone, self._rounding)

    def _check_alike(self, scores: torch.Tensor, alone: torch.Tensor) -> None:
        known = alone.isfinite() & scores.isfinite()
        most = self._rounding * alone[known].abs().max()
        # Not "more than": a row of which nothing is a number is not alike.
        if not bool((scores[known] - alone[known]).abs().max() <= most):
            raise DiffersError


class _Keeps(LogitsProcessor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.steps.append(scores[0].clone())
        return scores


def check_of(model: Any, batch: Batch, config: GenerationConfig) -> Check:
    """What compares the row of a batch that was filled up most with the same row alone."""
    sizes = [(room.nbytes(prompt), prompt.prompt_tokens) for prompt in batch.prompts]
    row = sizes.index(min(sizes))
    length = min(_CHECKED_TOKENS, config.max_new_tokens)
    inputs = on_device(batch.prompts[row].inputs, model)
    if quantized := _is_quantized(model):  # one row alone is multiplied otherwise than several
        inputs = {name: torch.cat([value, value]) for name, value in inputs.items()}
    keeps = _Keeps()
    model.generate(
        **inputs,
        generation_config=GenerationConfig(**{**config.to_dict(), "max_new_tokens": length}),
        logits_processor=[keeps],
    )
    # The logits come in 32 bits, whatever the model has computed them in.
    exact = model.dtype == torch.float32 and not quantized
    return Check(row, keeps.steps, _ROUNDING if exact else _ROUGHLY)


def _is_quantized(model: Any) -> bool:
    """Here, by bitsandbytes, or before it was published."""
    return getattr(model, "is_quantized", False) or any(
        isinstance(one, PackedLinear) for one in model.modules()
    )
