"""What a vision encoder is given and gives, picture by picture: taken apart, and put together.

No family is known by name. Its pictures lie side by side along one axis of all its inputs, or as
rows of patches that a grid counts; what it gives is along the first axis, or a list.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vlmcli.backends.local.pixels import Inputs

Tree = Any
"""A tensor, or a list or tuple of trees."""

Fields = dict[str, Tree]
"""What an encoder gives, by the names of its fields."""


@dataclass(frozen=True, slots=True)
class Given:
    """What an encoder gives; `left` are the names of fields that were left out of it, `empty` those
    of fields that have no value."""

    fields: Fields
    left: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()


POOLED = "pooler_output"
"""transformers' name for what takes the place of image tokens in the prompt."""
_GRID = "grid_thw"


@dataclass(frozen=True, slots=True)
class Split:
    """The inputs of each picture; `batched` if each of them is still one of a batch of one."""

    parts: tuple[Inputs, ...]
    batched: bool = False


def split(given: Inputs, pictures: int) -> Split:
    """The inputs of each of so many pictures; of all together where that cannot be told."""
    tensors = {name: one for name, one in given.items() if isinstance(one, torch.Tensor)}
    others = {name: one for name, one in given.items() if name not in tensors}
    together = Split((given,))
    if not tensors or any(isinstance(one, list | tuple) for one in others.values()):
        return together
    grids = [one for name, one in tensors.items() if name.endswith(_GRID)]
    if grids:
        return _rows(tensors, others, grids[0]) if len(grids) == 1 else together
    for axis in (0, 1) if pictures > 1 else ():
        if any(one.ndim <= axis or one.shape[axis] != pictures for one in tensors.values()):
            continue
        if axis and any(one.shape[0] != 1 for one in tensors.values()):
            continue
        each = [
            others | {name: one.narrow(axis, at, 1) for name, one in tensors.items()}
            for at in range(pictures)
        ]
        return Split(tuple(each), batched=axis == 1)
    return together


def _rows(tensors: Inputs, others: Inputs, grid: torch.Tensor) -> Split:
    """By a grid, of which each row is a picture: (pictures, 3) counts of patches."""
    sizes = grid.prod(-1).tolist()
    pieces = {}
    for name, one in tensors.items():
        if one is grid:
            pieces[name] = torch.split(one, 1)
        elif one.shape[0] == sum(sizes):
            pieces[name] = torch.split(one, sizes)
        else:
            return Split(({**tensors, **others},))
    each = zip(*pieces.values(), strict=True)
    return Split(tuple(others | dict(zip(pieces, one, strict=True)) for one in each))


def joined(parts: Sequence[Given], *, batched: bool) -> Given | None:
    """What an encoder would give for the pictures together; None if that cannot be told."""
    first = parts[0]
    if any((*part.fields,) != (*first.fields,) or part.left != first.left for part in parts):
        return None
    together: Fields = {}
    for name in first.fields:
        values = [part.fields[name] for part in parts]
        together[name] = (
            _layer_by_layer(values, batched)
            if name != POOLED and all(isinstance(value, list | tuple) for value in values)
            else _side_by_side(values, batched)
        )
        if together[name] is None:
            return None
    return Given(together, first.left, first.empty)


def _layer_by_layer(values: Sequence[Tree], batched: bool) -> Tree | None:
    if any(len(value) != len(values[0]) for value in values):
        return None
    layers = [_side_by_side(layer, batched) for layer in zip(*values, strict=True)]
    return None if any(layer is None for layer in layers) else layers


def _side_by_side(values: Sequence[Tree], batched: bool) -> Tree | None:
    if all(isinstance(value, torch.Tensor) and value.ndim for value in values):
        return None if batched else torch.cat([*values])  # along which axis, nothing tells
    if not all(isinstance(value, list | tuple) and len(value) == 1 for value in values):
        return None
    inner = [value[0] for value in values]
    if not all(isinstance(value, torch.Tensor) for value in inner):
        return None
    return [torch.cat(inner)] if batched else inner
