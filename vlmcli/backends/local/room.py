"""How much memory an answer takes, told from a model's configuration and from its inputs."""

from typing import Any

import torch

from vlmcli.backends.local import processors
from vlmcli.backends.local.inputs import Prompt

_STATES = 12
"""Of a layer at work, beside its input: queries, keys, values, and an MLP four times as wide."""
_PATCH_PIXELS = 14 * 14 * 3
"""What becomes one state of a vision tower."""


def cache_bytes(config: Any, dtype: torch.dtype) -> int:
    """Of the keys and values of one token."""
    text = config.get_text_config(decoder=True)
    heads = processors.number(text, "num_attention_heads") or 1
    width = processors.number(text, "head_dim") or processors.number(text, "hidden_size") // heads
    groups = processors.number(text, "num_key_value_heads") or heads
    layers = processors.number(text, "num_hidden_layers")
    return 2 * layers * groups * width * dtype.itemsize


def row_bytes(config: Any, dtype: torch.dtype, prompt: Prompt, max_tokens: int) -> int:
    """About what one prompt and its answer take beside others: its cache, its pixels twice, what
    one layer of the decoder and one of the vision tower make of them, and the logits."""
    text, vision = config.get_text_config(decoder=True), getattr(config, "vision_config", None)
    pixels = sum(
        value.numel()
        for value in prompt.inputs.values()
        if isinstance(value, torch.Tensor) and value.is_floating_point()
    )
    tower = (processors.number(vision, "hidden_size") or 1024) * (pixels // _PATCH_PIXELS)
    states = prompt.prompt_tokens * processors.number(text, "hidden_size")
    logits = processors.number(text, "vocab_size")
    numbers = 2 * pixels + _STATES * (tower + states) + 2 * logits
    cached = (prompt.prompt_tokens + max_tokens) * cache_bytes(config, dtype)
    return numbers * dtype.itemsize + cached


def nbytes(prompt: Prompt) -> int:
    """Of the inputs themselves, as the processor made them."""
    tensors = (value for value in prompt.inputs.values() if isinstance(value, torch.Tensor))
    return sum(tensor.nbytes for tensor in tensors)
