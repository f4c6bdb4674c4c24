"""Where a model keeps the keys and values of what it has read: layers that can be gone back on."""

from copy import copy
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation.utils import GenerationMixin

from vlmcli.backends.local.processors import Processor

REWIND_TOKENS = 1024
"""How far back a sliding layer can go: an answer and a question, to say one of them again."""

# All others (static, quantized, …) are made by `generate` itself. "hybrid" stands in the settings
# of Gemma 3 from the time before caches that grow could slide: transformers reads it as None.
_GROWING_CACHES = (None, "hybrid")
# Under them a token that was read already has other keys once the text has grown long.
_ROPES_OF_LENGTH = ("dynamic", "longrope")


def suits(model: Any, processor: Processor) -> bool:
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
        and settings.cache_implementation in _GROWING_CACHES
        and not any(rope in str(_ropes(model)) for rope in _ROPES_OF_LENGTH)
    )


def _ropes(model: Any) -> Any:
    return getattr(model.config.get_text_config(decoder=True), "rope_parameters", None)


class Rewinding(DynamicSlidingWindowLayer):  # type: ignore[misc]
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

    def crop(self, tokens_to_remove: int) -> None:
        """As the class above, but what lies before the window stays: the next crop needs it."""
        if self.is_initialized and tokens_to_remove:
            self.keys = self.keys[:, :, :tokens_to_remove]
            self.values = self.values[:, :, :tokens_to_remove]
            self.cumulative_length += tokens_to_remove

    def holds_window(self) -> bool:
        """Whether all that the next token sees is still there."""
        needed: int = min(self.cumulative_length, self.sliding_window - 1)
        return self.keys.shape[-2] >= needed


def empty(model: Any) -> DynamicCache:
    """What `generate` would make for the model itself, but for sliding layers that can go back."""
    cache = DynamicCache(config=model.config.get_text_config(decoder=True))
    cache.layers = [
        Rewinding(layer.sliding_window) if type(layer) is DynamicSlidingWindowLayer else layer
        for layer in cache.layers
    ]
    return cache


def branched(model: Any, cache: DynamicCache, count: int) -> DynamicCache:
    """`count` times what `cache` holds, side by side, to be gone on from; it stays as it is."""
    branches = empty(model)
    branches.layers = [copy(layer) for layer in cache.layers]
    for layer in filter(is_filled, branches.layers):
        layer.keys = layer.keys.expand(count, *layer.keys.shape[1:])
        layer.values = layer.values.expand(count, *layer.values.shape[1:])
    return branches


def is_filled(layer: Any) -> bool:
    return isinstance(layer, DynamicLayer) and layer.is_initialized


def holds(layer: Any, length: int) -> bool:
    """Whether a layer holds keys and values of `length` tokens, or none at all (it shares them)."""
    if isinstance(layer, DummyLayer):
        return True
    if type(layer) not in (DynamicLayer, Rewinding):
        return False
    return not layer.is_initialized or layer.get_seq_length() == length


def crop(cache: DynamicCache, length: int) -> bool:
    """Keep the first `length` tokens; False if a sliding layer has lost some that it needs."""
    cache.crop(length - cache.get_seq_length())
    return all(
        layer.holds_window()
        for layer in cache.layers
        if isinstance(layer, Rewinding) and layer.is_initialized
    )
