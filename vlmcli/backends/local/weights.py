"""A model as it is before its weights come, built without what they replace."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

_FILLS = frozenset(
    {
        init.constant_,
        init.kaiming_uniform_,
        init.normal_,
        init.uniform_,
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
    }
)
_META = torch.device("meta")


class Unfilled(TorchFunctionMode):
    """Tensors without memory are not filled, and what is counted is counted in memory.

    transformers first builds a model of tensors without memory. Torch reckons with those in Python,
    for which it imports sympy, and that alone was half of the time that a small model took to load.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if func in _FILLS and (args[0] if args else named["tensor"]).is_meta:
            return args[0] if args else named["tensor"]
        if func is torch.arange and named.get("device") == _META:
            named["device"] = "cpu"
        try:
            return func(*args, **named)
        except RuntimeError:
            given = [tensor.is_meta for tensor in _tensors((args, *named.values()))]
            if all(given) or not any(given):
                raise
            named = {name: _without_memory(value) for name, value in named.items()}
            return func(*_without_memory(args), **named)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)


def _without_memory(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(_META)
    return type(value)(map(_without_memory, value)) if isinstance(value, list | tuple) else value
