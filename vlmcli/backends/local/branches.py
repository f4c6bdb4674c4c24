"""A prompt that is read once, and what a model says after each of several beginnings of an answer.

Where a model's memory is one place a token, all of them are read side by side on top of it;
elsewhere each is an answer of its own, whose tokens are given.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor

from vlmcli.backends.local import layers
from vlmcli.backends.local.cache import Known, Memory, Start, longer
from vlmcli.backends.local.decode import on_device
from vlmcli.backends.local.inputs import REFUSALS, Prompt
from vlmcli.backends.local.pixels import Inputs, reaching

Path = tuple[int, ...]
"""The first tokens of an answer."""

_MOST_AT_ONCE = 32
_BYTES_AT_ONCE = 2**29


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt that was read.

    `first` are the log-probabilities of the token after it, over the whole vocabulary and before
    any setting changes them; `follow` gives, for each path, those after each of its tokens.
    """

    first: torch.Tensor  # (vocabulary,) float32
    follow: Callable[[Sequence[Path]], Iterator[torch.Tensor]]  # each (tokens, vocabulary) float32
    cached_tokens: int


def read(model: Any, prompt: Prompt, config: GenerationConfig, memory: Memory) -> Reading:
    """Read a prompt, but for what `memory` holds of an earlier one; `config` is of any answer."""
    start = memory.start(prompt.inputs)
    try:
        (first,) = _said(model, start, config, ())
    except REFUSALS:
        if not start.cached_tokens:
            raise
        memory.give_up()
        start = Start(prompt.inputs)
        (first,) = _said(model, start, config, ())
    check_finite(first)
    memory.keep(start, [0])
    follow = (
        partial(_one_by_one, model, prompt.inputs, config)
        if memory.known is None
        else partial(_side_by_side, model, memory.known)
    )
    return Reading(first, follow, start.cached_tokens)


def check_finite(chances: torch.Tensor) -> None:
    """Raises what torch's own sampling would, in its words, which the engine explains."""
    if chances.isnan().any():
        raise RuntimeError("probability tensor contains nan")


class _Says(LogitsProcessor):  # type: ignore[misc]
    """Whatever the model would say, it says the tokens of a path."""

    def __init__(self, path: Path) -> None:
        self._rest = iter(path)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        token = next(self._rest, None)
        if token is None:
            return scores
        return torch.full_like(scores, -torch.inf).index_fill_(
            1, torch.tensor([token], device=scores.device), 0.0
        )


def _said(model: Any, start: Start, config: GenerationConfig, path: Path) -> torch.Tensor:
    """The log-probabilities after the prompt and after each token of the path."""
    length = GenerationConfig(**{**config.to_dict(), "max_new_tokens": len(path) + 1})
    with reaching(model, start.new_pictures):
        made = model.generate(
            **on_device(start.inputs, model),
            generation_config=length,
            logits_processor=[_Says(path)],
            output_logits=True,
            return_dict_in_generate=True,
        )
    return torch.cat(made.logits).float().log_softmax(-1)


def _one_by_one(
    model: Any, inputs: Inputs, config: GenerationConfig, paths: Sequence[Path]
) -> Iterator[torch.Tensor]:
    for path in paths:
        yield _said(model, Start(inputs), config, path)[1:]


def _side_by_side(model: Any, known: Known, paths: Sequence[Path]) -> Iterator[torch.Tensor]:
    count = _at_once(model, known, max(map(len, paths)))
    for at in range(0, len(paths), count):
        some = paths[at : at + count]
        logits = _read_together(model, known, some)
        for row, path in zip(logits, some, strict=True):
            yield row[: len(path)].float().log_softmax(-1)


def _at_once(model: Any, known: Known, length: int) -> int:
    """How many paths are read side by side: each has a copy of the memory, and its own logits."""
    copied: int = sum(
        2 * layer.keys.nbytes for layer in known.cache.layers if layers.is_filled(layer)
    )
    vocabulary = int(model.config.get_text_config(decoder=True).vocab_size)
    return max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // (copied + 4 * vocabulary * length)))


def _read_together(model: Any, known: Known, paths: Sequence[Path]) -> torch.Tensor:
    """The logits after each token: (paths, tokens of the longest, vocabulary)."""
    count = max(map(len, paths))
    # What is put behind a path that is shorter comes after it, so no token of it sees that.
    filled = [[*path, *[0] * (count - len(path))] for path in paths]
    rows = {
        name: torch.cat([longer(name, row, tokens) for tokens in filled], dim=-2)
        for name, row in known.rows.items()
    }
    inputs = model.prepare_inputs_for_generation(
        next_sequence_length=count,
        past_key_values=layers.branched(model, known.cache, len(paths)),
        use_cache=True,
        is_first_iteration=False,
        **on_device(rows, model),
    )
    logits: torch.Tensor = model(**inputs, return_dict=True).logits
    return logits
