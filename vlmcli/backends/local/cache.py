"""The keys and values of the conversation answered last, for the one that goes on from it.

Tokens that two prompts begin with alike are read once: only the rest of the second prompt goes
through the model, and no picture among the first is looked at again. What is told by names nowhere
is whether a model allows this. It is seen from its layers, from the inputs that its processor makes
and the positions that it gives them, and from the model itself: the first tokens alone must have
the keys and values that they have before the rest. Where one of these does not hold, every prompt
is read from its start.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import DynamicCache, GenerationConfig
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation.utils import GenerationMixin

from vlmcli.backends.local.processors import Processor

Inputs = dict[str, Any]

REWIND_TOKENS = 1024
"""How far back a sliding layer can go: an answer and a question, to say one of them again."""
_FIRST_TOKENS = 8
_ROUNDING = 0.05
"""Of the largest value: products of other shapes add up otherwise in 16 bits. What looks ahead is
off by as much as the values are."""
# They keep less memory than full ones, which is what the user of such a model is there for.
_SPARING_CACHES = ("quantized", "offloaded")
# Under them a token that was read already has other keys once the text has grown long.
_ROPES_OF_LENGTH = ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a prompt as its inputs show them: for each input its shape and a digest."""

    tokens: int
    inputs: Mapping[str, tuple[torch.Size, bytes]]


NO_PICTURES = Pictures(0, {})


@dataclass(frozen=True, slots=True)
class Known:
    """A conversation that was read.

    `rows` are the inputs with a place for each of its tokens, along the last axis; `pictures` are
    those of ever longer parts of it, the last of them all that there are.
    """

    layers: DynamicCache
    rows: Mapping[str, torch.Tensor]
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
        self._suits = _suits(self.model, self.processor)

    def start(self, inputs: Inputs) -> Start:
        """How to begin with a prompt; what is of no use to it is forgotten at once.

        `inputs` are the processor's, on the CPU.
        """
        known, self._known = self._known, None
        if not self._suits or not all(isinstance(x, torch.Tensor) for x in inputs.values()):
            return Start(inputs)
        rows = _rows(self.model, inputs)
        pixels = {name: inputs[name] for name in inputs.keys() - rows.keys()}
        seen = Pictures(len(self._image_places(rows)), {n: _mark(x) for n, x in pixels.items()})
        found = None if known is None else self._common(known, rows, pixels)
        if known is None or found is None or not self._rewind(known, found[0]):
            fresh = Known(_empty_cache(self.model), rows, (seen,))
            return Start({**inputs, "past_key_values": fresh.layers}, 0, fresh)
        length, rest, at = found
        before = known.pictures[: known.pictures.index(at) + 1] if at in known.pictures else ()
        going_on = Known(known.layers, rows, (*before, seen))
        return Start({**rows, **rest, "past_key_values": known.layers}, length, going_on)

    def keep(self, start: Start, answer: list[int]) -> None:
        """Remember a prompt that was answered, as far as the model has read the answer."""
        if start.known is None:
            return
        layers = start.known.layers
        length = layers.get_seq_length()
        if not length or not all(_holds(layer, length) for layer in layers.layers):
            self._suits = False  # another kind of memory than one place a token
            return
        rows = {name: _longer(name, row, answer) for name, row in start.known.rows.items()}
        read = min(length, rows["input_ids"].shape[-1])
        if not _crop(layers, read):
            return
        rows = {name: row[..., :read] for name, row in rows.items()}
        self._known = Known(layers, rows, start.known.pictures)

    def give_up(self) -> None:
        """Read every prompt from its start from now on."""
        self._suits = False

    def _common(
        self, known: Known, rows: Mapping[str, torch.Tensor], pixels: Inputs
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
            rest = _after(pictures, pixels)
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
        return not self._looks_ahead and _crop(known.layers, length)

    def _first_tokens_differ(self, known: Known) -> bool:
        """Whether the first tokens are read otherwise alone; True also where that is not seen."""
        places = self._image_places(known.rows)
        count = min([_FIRST_TOKENS, known.rows["input_ids"].shape[-1], *places[:1]])
        if not count:
            return True
        alone = _empty_cache(self.model)
        inputs = {name: row[..., :count] for name, row in known.rows.items()}
        config = GenerationConfig(max_new_tokens=1, do_sample=False, pad_token_id=0)
        self.model.generate(
            **{name: row.to(self.model.device) for name, row in inputs.items()},
            past_key_values=alone,
            generation_config=config,
        )
        length = known.layers.get_seq_length()
        # The first layer sees each token by itself, whatever the later ones do.
        pairs = [
            (one.keys, all_of_it.keys[..., :count, :])
            for one, all_of_it in zip(alone.layers[1:], known.layers.layers[1:], strict=True)
            if one.keys is not None and all_of_it.keys.shape[-2] == length
        ]
        return not pairs or any(_differ(*pair) for pair in pairs)

    def _image_places(self, rows: Mapping[str, torch.Tensor]) -> list[int]:
        """Where in the prompt a piece of a picture or a clip stands."""
        tokens = {self.processor.image_token_id, self.processor.video_token_id}
        return [at for at, one in enumerate(rows["input_ids"][0].tolist()) if one in tokens]


class _Rewinding(DynamicSlidingWindowLayer):  # type: ignore[misc]
    """A sliding layer that keeps what has just left its window, so that it can be cropped."""

    def __init__(self, sliding_window: int) -> None:
        super().__init__(sliding_window)
        self.activate_past_recording()

    def update(self, *states: Any, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
        visible: tuple[torch.Tensor, torch.Tensor] = super().update(*states, **options)
        room = self.sliding_window - 1 + REWIND_TOKENS
        self.keys: torch.Tensor = self.keys[:, :, -room:]
        self.values: torch.Tensor = self.values[:, :, -room:]
        return visible


def _suits(model: Any, processor: Processor) -> bool:
    """Whether transformers' own `generate` fills a cache of one place a token for this model."""
    kind, settings = type(model), model.generation_config
    return (
        processor.image_token_id is not None
        and not model.config.is_encoder_decoder
        and not model.is_remote_code()
        and kind.generate is GenerationMixin.generate
        and kind._prepare_cache_for_generation is GenerationMixin._prepare_cache_for_generation
        and hasattr(kind, "_prepare_position_ids_for_generation")
        and kind._supports_default_dynamic_cache()
        and settings.use_cache is not False
        and not (settings.cache_implementation or "").startswith(_SPARING_CACHES)
        and not any(rope in str(_ropes(model)) for rope in _ROPES_OF_LENGTH)
    )


def _ropes(model: Any) -> Any:
    return getattr(model.config.get_text_config(decoder=True), "rope_parameters", None)


def _empty_cache(model: Any) -> DynamicCache:
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    cache.layers = [
        _Rewinding(layer.sliding_window) if type(layer) is DynamicSlidingWindowLayer else layer
        for layer in cache.layers
    ]
    return cache


def _holds(layer: Any, length: int) -> bool:
    """Whether a layer holds keys and values of `length` tokens, or none at all (it shares them)."""
    if isinstance(layer, DummyLayer):
        return True
    if type(layer) not in (DynamicLayer, _Rewinding):
        return False
    return not layer.is_initialized or layer.get_seq_length() == length


def _crop(cache: DynamicCache, length: int) -> bool:
    """Keep the first `length` tokens; False if a sliding layer has lost some that it needs."""
    cache.crop(length - cache.get_seq_length())
    return all(
        layer.keys.shape[-2] == min(length, layer.sliding_window - 1)
        for layer in cache.layers
        if isinstance(layer, _Rewinding) and layer.is_initialized
    )


def _rows(model: Any, inputs: Inputs) -> dict[str, torch.Tensor]:
    """The inputs with a place for each token, and the positions that the model gives them.

    With positions of the whole prompt a model need not remember how far earlier pictures have
    moved them (Qwen's `rope_deltas`).
    """
    shape = inputs["input_ids"].shape
    rows = {name: value for name, value in inputs.items() if value.shape == shape}
    others = {name: value for name, value in inputs.items() if name != "input_ids"}
    positions = model._prepare_position_ids_for_generation(inputs["input_ids"], others)
    return {**rows, "position_ids": positions}


def _longer(name: str, row: torch.Tensor, answer: list[int]) -> torch.Tensor:
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


def _mark(tensor: torch.Tensor) -> tuple[torch.Size, bytes]:
    numbers: Any = tensor.contiguous().flatten().view(torch.uint8).numpy()
    return tensor.shape, hashlib.sha256(numbers).digest()


def _after(pictures: Pictures, pixels: Inputs) -> Inputs | None:
    """Of the inputs of pictures those that come after `pictures`; None if others come first.

    Tiles, patches and sizes of further pictures follow those of the first along one axis: so it is
    seen, and not known, where in an input a picture ends.
    """
    if not pictures.inputs.keys() <= pixels.keys():
        return None
    rest = {}
    for name, tensor in pixels.items():
        if name not in pictures.inputs:
            rest[name] = tensor
            continue
        shape, _ = mark = pictures.inputs[name]
        halves = _split(tensor, shape)
        if halves is None or _mark(halves[0]) != mark:
            return None
        if halves[1].numel():
            rest[name] = halves[1]
    # An input that stayed the same beside one that grew may be about all pictures together.
    return rest if not rest or pictures.inputs.keys() <= rest.keys() else None


def _split(tensor: torch.Tensor, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The part of `shape` that the tensor begins with, and the rest; None if there are not both."""
    if tensor.ndim != len(shape):
        return None
    grown = [axis for axis, size in enumerate(tensor.shape) if size != shape[axis]]
    axis = grown[0] if grown else 0
    more = tensor.shape[axis] - shape[axis]
    if len(grown) > 1 or axis > 1 or more < 0:  # of (pictures, tiles, colours, height, width)
        return None
    return tensor.narrow(axis, 0, shape[axis]), tensor.narrow(axis, shape[axis], more)


def _differ(one: torch.Tensor, other: torch.Tensor) -> bool:
    difference = (one.float() - other.float()).abs().max()
    return bool(difference > _ROUNDING * other.float().abs().max())
