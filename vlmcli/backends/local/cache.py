"""The keys and values of the conversation answered last, for the one that goes on from it.

Tokens that two prompts begin with alike are read once: only the rest of the second prompt goes
through the model, and no picture among the first is looked at again. Whether a model allows this is
told by no list of names. It is seen from its layers, from the inputs that its processor makes and
the positions that it gives them, and from the model itself: the first tokens alone must have the
keys and values that they have before the rest. Where one of these does not hold, every prompt is
read from its start.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig

from vlmcli.backends.local import layers, pixels
from vlmcli.backends.local.inputs import REFUSALS
from vlmcli.backends.local.pixels import NO_PICTURES, Inputs, Pictures
from vlmcli.backends.local.processors import Processor

Rows = Mapping[str, torch.Tensor]
"""Inputs with a place for each token, along the last axis."""

_FIRST_TOKENS = 8
_ROUNDING = 0.05
"""Of the largest value: in 16 bits a product of another shape adds up otherwise. What looks ahead
is off by as much as the values are."""


@dataclass(frozen=True, slots=True)
class Known:
    """A conversation that was read.

    `pictures` are those of ever longer parts of it, the last of them all that there are.
    """

    cache: DynamicCache
    rows: Rows
    pictures: tuple[Pictures, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """What `generate` is given for a prompt, of which `cached_tokens` are known already.

    `known` is what will be known of it after the answer; None if nothing is to be kept.
    """

    inputs: Inputs
    cached_tokens: int = 0
    known: Known | None = None

    @property
    def new_pictures(self) -> tuple[str, ...]:
        """The inputs that hold pictures after known tokens: a model could drop them."""
        if self.known is None or not self.cached_tokens:
            return ()
        return tuple(name for name in self.inputs if name in self.known.pictures[-1].inputs)


@dataclass(slots=True)
class Memory:
    """What one loaded model remembers: at most one conversation."""

    model: Any
    processor: Processor
    _known: Known | None = field(default=None, init=False)
    _suits: bool = field(init=False)
    _looks_ahead: bool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._suits = layers.suits(self.model, self.processor)

    def start(self, inputs: Inputs) -> Start:
        """How to begin with a prompt; what is of no use to it is forgotten at once.

        `inputs` are the processor's, on the CPU.
        """
        known, self._known = self._known, None
        if not self._suits or not all(isinstance(x, torch.Tensor) for x in inputs.values()):
            return Start(inputs)
        rows = _rows(self.model, inputs)
        seen = {name: inputs[name] for name in inputs.keys() - rows.keys()}
        here = pixels.pictures(len(self._image_places(rows)), seen)
        found = None if known is None else self._common(known, rows, seen)
        if known is None or found is None or not self._rewind(known, found[0]):
            fresh = Known(layers.empty(self.model), rows, (here,))
            return Start({**inputs, "past_key_values": fresh.cache}, 0, fresh)
        length, rest, at = found
        before = known.pictures[: known.pictures.index(at) + 1] if at in known.pictures else ()
        going_on = Known(known.cache, rows, (*before, here))
        return Start({**rows, **rest, "past_key_values": known.cache}, length, going_on)

    def keep(self, start: Start, answer: list[int]) -> None:
        """Remember a prompt that was answered, as far as the model has read the answer."""
        if start.known is None:
            return
        cache = start.known.cache
        length = cache.get_seq_length()
        if not all(layers.holds(layer, length) for layer in cache.layers):
            self._suits = False  # another kind of memory than one place a token
            return
        rows = {name: longer(name, row, answer) for name, row in start.known.rows.items()}
        read = min(length, rows["input_ids"].shape[-1])
        if layers.crop(cache, read):
            rows = {name: row[..., :read] for name, row in rows.items()}
            self._known = Known(cache, rows, start.known.pictures)

    @property
    def known(self) -> Known | None:
        """The conversation that is held."""
        return self._known

    def give_up(self) -> None:
        """Read every prompt from its start from now on."""
        self._suits = False

    def _common(
        self, known: Known, rows: Rows, seen: Inputs
    ) -> tuple[int, Inputs, Pictures] | None:
        """How many of the first tokens are known, the inputs of the pictures after them, and the
        pictures among them."""
        if rows.keys() != known.rows.keys():
            return None
        length = min(_shared(row, known.rows[name]) for name, row in rows.items())
        count = rows["input_ids"].shape[-1]
        length = min(length, count - 1)  # the last one is read again: it says what comes next
        places = self._image_places(rows)
        for pictures in (*reversed(known.pictures), NO_PICTURES):
            # Up to the first token of the picture that comes next.
            end = min([length, *places[pictures.tokens : pictures.tokens + 1]])
            among = sum(place < end for place in places)
            cut = end - 1 in places and end in places  # perhaps in the middle of a picture
            if among != pictures.tokens or cut:
                continue
            rest = pixels.after(pictures, seen)
            if rest is None or bool(rest) != (len(places) > among):
                continue
            # A few words that all prompts begin with are not worth an answer that depends, if only
            # by a rounding, on what was asked before.
            worth_it = pictures.tokens > 0 or 2 * end >= count
            return (end, rest, pictures) if worth_it else None
        return None

    def _rewind(self, known: Known, length: int) -> bool:
        """Go back to the first `length` tokens; False if that cannot be done, or is not safe."""
        if self._looks_ahead is None:
            self._looks_ahead = self._first_tokens_differ(known)
        return self._looks_ahead is False and layers.crop(known.cache, length)

    def _first_tokens_differ(self, known: Known) -> bool | None:
        """Whether the first tokens are read otherwise alone; None if no layer holds them still."""
        places = self._image_places(known.rows)
        count = min([_FIRST_TOKENS, known.rows["input_ids"].shape[-1], *places[:1]])
        if not count:
            return None
        alone = layers.empty(self.model)
        device = self.model.device
        inputs = {name: row[..., :count].to(device) for name, row in known.rows.items()}
        config = GenerationConfig(max_new_tokens=1, num_beams=1, do_sample=False, pad_token_id=0)
        try:
            self.model.generate(**inputs, past_key_values=alone, generation_config=config)
        except REFUSALS:
            return True
        length = known.cache.get_seq_length()
        # The first layer sees each token by itself, whatever the later ones do.
        pairs = [
            (one.keys, all_of_it.keys[..., :count, :])
            for one, all_of_it in zip(alone.layers[1:], known.cache.layers[1:], strict=True)
            if one.keys is not None and all_of_it.keys.shape[-2] == length
        ]
        return any(_differ(*pair) for pair in pairs) if pairs else None

    def _image_places(self, rows: Rows) -> list[int]:
        """Where in the prompt a piece of a picture or a clip stands."""
        tokens = {self.processor.image_token_id, self.processor.video_token_id}
        return [at for at, one in enumerate(rows["input_ids"][0].tolist()) if one in tokens]


def _rows(model: Any, inputs: Inputs) -> dict[str, torch.Tensor]:
    """The inputs of a prompt that are rows, and the positions that the model gives its tokens.

    With positions of the whole prompt a model need not remember how far earlier pictures have
    moved them (Qwen's `rope_deltas`).
    """
    shape = inputs["input_ids"].shape
    rows = {name: value for name, value in inputs.items() if value.shape == shape}
    if "position_ids" not in signature(model.forward).parameters:
        return rows
    others = {name: value for name, value in inputs.items() if name != "input_ids"}
    positions = model._prepare_position_ids_for_generation(inputs["input_ids"], others)
    return {**rows, "position_ids": positions}


def longer(name: str, row: torch.Tensor, answer: list[int]) -> torch.Tensor:
    """A row of a prompt with that of an answer, all text, behind it."""
    if name == "input_ids":
        more = torch.tensor([answer], dtype=row.dtype)
    elif name == "position_ids":
        more = row[..., -1:] + torch.arange(1, len(answer) + 1, dtype=row.dtype)
    else:
        more = row[..., -1:].expand(*row.shape[:-1], len(answer))
    return torch.cat([row, more], dim=-1)


def _shared(row: torch.Tensor, known: torch.Tensor) -> int:
    """How many places of two rows are alike from the start."""
    if row.shape[:-1] != known.shape[:-1]:
        return 0
    count = min(row.shape[-1], known.shape[-1])
    same = (row[..., :count] == known[..., :count]).reshape(-1, count).all(dim=0)
    return int(same.long().cumprod(dim=0).sum())


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    difference = (one.float() - other.float()).abs().max()
    return bool(difference > _ROUNDING * other.float().abs().max())
