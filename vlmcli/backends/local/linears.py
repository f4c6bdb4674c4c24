"""Linear layers that read the same input, as one: a product of one row costs what reading its
weights costs, and little beyond that for each call."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

Function = Callable[[torch.Tensor], torch.Tensor]


def joined(layers: Sequence[Any]) -> Any | None:
    """One layer whose output is those of `layers` side by side; None if they cannot be joined.

    The weights of plain layers become views of its weight, so that nothing is held twice; other
    kinds say in a classmethod `joined` how they are.
    """
    kind = type(layers[0])
    if any(type(layer) is not kind or _is_watched(layer) for layer in layers):
        return None
    if kind is nn.Linear:
        return _joined_plain(layers)
    own: Callable[[Sequence[Any]], Any] | None = getattr(kind, "joined", None)
    return None if own is None else own(layers)


def function(layer: Any) -> Function:
    """What a layer computes, without what torch does around each call of a module."""
    if _is_watched(layer):
        return partial(_called, layer)
    if type(layer) is nn.Linear:
        weight, bias = layer.weight, layer.bias
        return lambda x: nn.functional.linear(x, weight, bias)
    forward: Function = layer.forward
    return forward


def _called(layer: Any, x: torch.Tensor) -> torch.Tensor:
    y: torch.Tensor = layer(x)
    return y


def _is_watched(layer: Any) -> bool:
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def _joined_plain(layers: Sequence[nn.Linear]) -> nn.Linear | None:
    first = layers[0]
    alike = {(x.in_features, x.weight.dtype, x.weight.device, x.bias is None) for x in layers}
    if len(alike) > 1:
        return None
    # A tensor that is born in inference mode cannot take the place of one that was not.
    with torch.inference_mode(False), torch.no_grad():
        rows = sum(layer.out_features for layer in layers)
        one = nn.Linear(first.in_features, rows, bias=first.bias is not None, device="meta")
        one.weight = _side_by_side([layer.weight for layer in layers])
        if first.bias is not None:
            one.bias = _side_by_side([layer.bias for layer in layers])
    return one


def _side_by_side(parameters: Sequence[torch.Tensor]) -> nn.Parameter:
    """All of them in one, of which each becomes a view."""
    whole = _as_it_lies(parameters)
    if whole is None:
        whole = torch.cat([parameter.data for parameter in parameters])
        at = 0
        for parameter in parameters:
            parameter.data = whole[at : at + len(parameter)]
            at += len(parameter)
    return nn.Parameter(whole, requires_grad=False)


def _as_it_lies(parameters: Sequence[torch.Tensor]) -> torch.Tensor | None:
    """The memory of parameters that lie in it one after the other, as some do in their file."""
    first = parameters[0].data
    end = first.data_ptr()
    for parameter in parameters:
        if (
            parameter.data_ptr() != end
            or not parameter.is_contiguous()
            or parameter.untyped_storage().data_ptr() != first.untyped_storage().data_ptr()
        ):
            return None
        end += parameter.nbytes
    rows = sum(len(parameter) for parameter in parameters)
    return first.as_strided((rows, *first.shape[1:]), first.stride(), first.storage_offset())
