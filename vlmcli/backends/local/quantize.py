"""Which layers of a model are computed in eight or four bits, on which device and by what."""

import math
import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig

from vlmcli import cpu
from vlmcli.backends.local.kernels import Int4Linear, Int8Linear, PackedLinear
from vlmcli.cpu import kernels, measuring
from vlmcli.device import Device
from vlmcli.errors import DeviceError, ModelError
from vlmcli.models import files

NONE, INT8, INT4, AUTO = "none", "int8", "int4", "auto"

_GAIN = 1.2
"""How many times as fast layers of eight bits have to be for `auto` to take other words for it."""

_LEAST_FEATURES = 16
"""Layers with fewer inputs or outputs stay: they cost nothing, and a router decides by them."""

_NEEDED = ("bitsandbytes", "accelerate")


def resolve(asked: str, device: Device) -> str:
    """What `--quantize` comes to on a device: none, int8 or int4.

    Raises DeviceError where there is no such thing, ModelError where a package is missing.
    """
    kind = device.name.partition(":")[0]
    if asked == AUTO:
        gains = [cpu.speeds().int8_gain(device.dtype, rows) for rows in measuring.ROWS]
        return INT8 if kind == "cpu" and geometric_mean(gains) >= _GAIN else NONE
    if asked == NONE or kind == "cpu":
        return asked
    if kind == "mps":
        raise DeviceError(
            f"--quantize {asked}: not on an Apple GPU",
            hint="--device cpu can, and --dtype float16 takes half of float32 here",
        )
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ModelError(
            f"--quantize {asked} on {device.name} needs {' and '.join(missing)}",
            hint="pip install 'vlmcli[bnb]'",
        )
    return asked


def check(kind: str, asked: str, config: Any, name: str) -> str:
    """`kind`, or none where `auto` has no choice: the model is quantized as it lies on the disk.

    Raises ModelError if more than that was asked for.
    """
    if kind == NONE or getattr(config, "quantization_config", None) is None:
        return kind
    if asked == AUTO:
        return NONE
    raise ModelError(f"--quantize {kind}: {name} is quantized already", hint="leave --quantize out")


def while_loading(kind: str, device: Device) -> Mapping[str, Any]:
    """What `from_pretrained` is told for a model to be quantized as it is loaded, on a GPU.

    It is then on its device.
    """
    if kind == NONE or device.name == "cpu":
        return {}
    if kind == INT8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=device.dtype
        )
    return {"quantization_config": config, "device_map": {"": device.name}}


def describe(kind: str, device: Device) -> str:
    """What a quantized model is computed by, for `-v`; empty if it is not."""
    if kind == NONE:
        return ""
    if device.name != "cpu":
        return f"{kind} (bitsandbytes)"
    which = "measured here" if kind == INT8 else "of the text model; all else int8, measured here"
    return f"{kind} ({which}, beside {cpu.speeds().in_words(device.dtype)})"


# On a CPU ------------------------------------------------------------------------------------


def apply(model: Any, kind: str, name: str) -> None:
    """Put layers of eight or four bits in the place of a model's linear layers.

    Their own weights are dropped, but for an embedding that shares them with the output head.
    Raises ModelError if there are none.
    """
    places = _places(model)
    if not places:
        raise ModelError(f"--quantize {kind}: {name} has no layers that could be")
    four = {id(one) for one in _text_layers(model)} if kind == INT4 else set()

    def packed(layer: nn.Linear) -> PackedLinear:
        with torch.no_grad():
            return _int4(layer) if id(layer) in four else _int8(layer)

    while places:
        layer, where = places.popitem()
        small = packed(layer)
        for name in where:
            model.set_submodule(name, small)


def _places(model: nn.Module) -> dict[nn.Linear, list[str]]:
    """The layers to be replaced, and the names of each: it can be in two places."""
    found: dict[nn.Linear, list[str]] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        # A subclass may compute something else, or give its weight to who does.
        if type(layer) is nn.Linear and min(layer.weight.shape) >= _LEAST_FEATURES:
            found.setdefault(layer, []).append(name)
    return found


def _text_layers(model: Any) -> Iterator[nn.Module]:
    """Those that read a row for each new token, but for the output head, which picks the words.

    What reads pictures reads many rows at once, which four bits are slow at.
    """
    head = model.get_output_embeddings()
    return (one for one in model.get_decoder().modules() if one is not head)


def _int8(layer: nn.Linear) -> Int8Linear:
    return Int8Linear(*kernels.to_int8(layer.weight), _bias(layer), layer.weight.dtype)


def _int4(layer: nn.Linear) -> PackedLinear:
    if not kernels.int4_fits(layer.out_features, layer.in_features):
        return _int8(layer)
    return Int4Linear(*kernels.to_int4(layer.weight), _bias(layer), layer.weight.dtype)


def _bias(layer: nn.Linear) -> torch.Tensor | None:
    return None if layer.bias is None else layer.bias.detach()


# Memory --------------------------------------------------------------------------------------

_STORED = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
_EMBEDDING = re.compile(r"embed|\bwte\b|\bwpe\b")
_NOT_TEXT = re.compile(r"vision|visual|image|connector|projector|lm_head")
_INT4_BYTES = 0.5 + 4 / kernels.GROUP


def weight_bytes(folder: Path, config: Any, dtype: torch.dtype, kind: str) -> int:
    """Memory for the weights in `dtype`, quantized or not; told from their names and shapes.

    Weights that lie in `dtype` on the disk are read from there while they are quantized; others are
    all in memory before that.
    """
    stored = files.tensors(folder)
    whole = sum(math.prod(shape) for _, shape in stored.values()) * dtype.itemsize
    if kind == NONE or {form for form, _ in stored.values()} != {_STORED.get(dtype)}:
        return whole
    quantized = sum(
        math.prod(shape) * _bytes_each(name, shape, dtype, kind)
        for name, (_, shape) in stored.items()
    )
    text = config.get_text_config(decoder=True)
    if config.tie_word_embeddings or text.tie_word_embeddings:  # the head is a copy
        quantized += text.vocab_size * text.hidden_size
    return min(whole, math.ceil(quantized))


def _bytes_each(name: str, shape: tuple[int, ...], dtype: torch.dtype, kind: str) -> float:
    if len(shape) != 2 or min(shape) < _LEAST_FEATURES or _EMBEDDING.search(name):
        return dtype.itemsize
    if kind == INT4 and not _NOT_TEXT.search(name):
        return _INT4_BYTES
    blocks = shape[1] / kernels.DYNAMIC_INPUTS
    # The operator's own order has room for whole blocks of inputs, where there is more than one.
    return math.ceil(blocks) / blocks if blocks > 1 and kernels.has_dynamic() else 1
