"""A model as it is before its weights come, built without what they replace."""

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree

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
    """Tensors without memory are not filled, and counting is done in memory.

    A model is first built of tensors without memory. Torch reckons with those in Python, and that
    imports its compiler and sympy, in most of the time that a small model takes to load.
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
        except RuntimeError:  # a count beside a tensor without memory
            args, named = _pytree.tree_map_only(torch.Tensor, _without_memory, (args, named))
            return func(*args, **named)


def _without_memory(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(_META)
