"""What a vision encoder is given and gives, picture by picture: taken apart, and put together.

No family is known by name. Its pictures lie side by side along one axis of all its inputs, or as
rows of patches that a grid counts; what it gives is along the first axis, or a list.
"""

from collections.abc import Mapping, Sequence
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


def split(given: Inputs, views: Sequence[int]) -> Split:
    """The inputs of each picture, or of all together where that cannot be told.

    `views` is how many views each picture of the prompt has. The first pictures may be missing: a
    conversation that goes on shows a model only the last.
    """
    tensors = {name: one for name, one in given.items() if isinstance(one, torch.Tensor)}
    others = {name: one for name, one in given.items() if name not in tensors}
    together = Split((given,))
    if not tensors or any(isinstance(one, list | tuple) for one in others.values()):
        return together
    grids = [one for name, one in tensors.items() if name.endswith(_GRID)]
    if grids:
        return _rows(tensors, others, grids[0]) if len(grids) == 1 else together
    for axis in (0, 1):
        shapes = [one.shape for one in tensors.values()]
        if any(len(shape) <= axis or shape[axis] != shapes[0][axis] for shape in shapes):
            continue
        sizes = _last(views, shapes[0][axis])
        if len(sizes) < 2 or (axis and any(shape[0] != 1 for shape in shapes)):
            continue
        pieces = {name: torch.split(one, sizes, axis) for name, one in tensors.items()}
        return Split(_of_each(pieces, others), batched=axis == 1)
    return together


def _last(views: Sequence[int], count: int) -> list[int]:
    """Of which of the last pictures so many views are; none if it does not come out even."""
    for each in (views, [1] * len(views)):
        rest, sizes = count, list[int]()
        for size in reversed(each):
            if rest:
                rest -= size
                sizes.insert(0, size)
        if rest == 0:
            return sizes
    return []


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
    return Split(_of_each(pieces, others))


def _of_each(pieces: Mapping[str, Sequence[torch.Tensor]], others: Inputs) -> tuple[Inputs, ...]:
    each = zip(*pieces.values(), strict=True)
    return tuple(others | dict(zip(pieces, one, strict=True)) for one in each)


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
    if not all(isinstance(value, list | tuple) for value in values):
        return None
    inner = [one for value in values for one in value]
    if not all(isinstance(one, torch.Tensor) for one in inner):
        return None
    if not batched:
        return inner
    return [torch.cat(inner)] if len(inner) == len(values) else None
