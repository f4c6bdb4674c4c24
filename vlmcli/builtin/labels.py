"""The labels of a picture as tensors: what is in its slots and cells, where, and before what."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vlmcli.builtin.drawing import CELL, CHARS, COLOR_NAMES, SIDE, THINGS, Picture

# A slot of 4 by 8 pixels holds the middle of one character at most, even in small print.
SLOT_WIDTH, SLOT_HEIGHT = 4, 8
SLOTS_DOWN, SLOTS_ACROSS = SIDE // SLOT_HEIGHT, SIDE // SLOT_WIDTH
DOWN, ACROSS = CELL // SLOT_HEIGHT, CELL // SLOT_WIDTH
"""Slots of a cell."""
FINE = CELL // 2
"""Pixels of a cell of the finer head."""
FINE_SLOTS = FINE // SLOT_HEIGHT * (FINE // SLOT_WIDTH)
_WAVELENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the place of a cell, in sides of the picture."""
PLACE_WAVES = 4 * len(_WAVELENGTHS)
CHANGES = ("same", "new", "color", "left", "right", "up", "down", "larger", "smaller")
"""What became of a thing from one picture to the next."""
SPOKEN = (*CHARS, *THINGS, *COLOR_NAMES)
"""What is seen that the decoder has a token for."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels of a batch of pictures; slots are (SLOTS_DOWN, SLOTS_ACROSS), cells are square."""

    slots: Tensor  # (batch, slots down, across) int64: 0 or 1 + index in CHARS
    before: Tensor  # (batch, 2, slots down, across) int64: 0 or 1 + the one and the two before
    middles: Tensor  # (batch, cells down, across) float: from the cell's middle, in cells, or 0
    things: Tensor  # (batch, cells down, cells across) int64: 0 or 1 + index in THINGS
    colors: Tensor  # (batch, cells down, cells across) int64: 0 or 1 + index in COLOR_NAMES
    marks: Tensor  # (batch, 2, cells down, across) int64: kind and colour of what has its mark here
    spans: Tensor  # (batch, cells down, across, 4) float: of the mark, see `span_of`

    def each(self, change: Callable[[Tensor], Tensor]) -> "Truth":
        return Truth(*(change(getattr(self, field.name)) for field in fields(self)))

    def __add__(self, other: "Truth") -> "Truth":
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Truth(*(torch.cat(pair) for pair in pairs))


def truth_of(picture: Picture) -> Truth:
    """The labels of one picture, as a batch of one."""
    chars, marks = torch.from_numpy(picture.chars), torch.from_numpy(picture.marks)
    slots = torch.zeros(3, SLOTS_DOWN, SLOTS_ACROSS, dtype=torch.int64)
    # The largest number below 1 is rounded up to the number of slots when it is multiplied.
    rows = (chars[:, 1] * SLOTS_DOWN).long().clamp(max=SLOTS_DOWN - 1)
    columns = (chars[:, 0] * SLOTS_ACROSS).long().clamp(max=SLOTS_ACROSS - 1)
    for i in range(3):
        slots[i, rows, columns] = chars[:, 2 + i].long() + 1
    side = SIDE // CELL
    middles = torch.zeros(side, side)
    columns, rows = columns * SLOT_WIDTH // CELL, rows * SLOT_HEIGHT // CELL
    away = chars[:, 5] * side - (columns + 0.5)
    middles[rows, columns] = away.clamp(-3, 3) / 3
    things = torch.from_numpy(picture.things).long()
    kinds, spans = torch.zeros(2, side, side, dtype=torch.int64), torch.zeros(side, side, 4)
    columns = (marks[:, 0] * side).long().clamp(max=side - 1)
    rows = (marks[:, 1] * side).long().clamp(max=side - 1)
    kinds[0, rows, columns], kinds[1, rows, columns] = marks[:, 4].long() + 1, marks[:, 5].long()
    spans[rows, columns] = span_of(marks)
    return Truth(slots[0], slots[1:], middles, things[0], things[1], kinds, spans).each(
        lambda part: part[None]
    )


def span_of(marks: Tensor) -> Tensor:
    """(x, y, across, down, ...) -> where it is and how large, in numbers of about -1 to 1."""
    places = marks[:, :2] * 2 - 1
    sizes = (marks[:, 2:4].clamp(min=1 / 64).log2() + 3) / 2
    return torch.cat([places, sizes], -1)


def cell_at(across: float, down: float) -> int:
    """The cell of a place (from 0 to 1), row by row."""
    side = SIDE // CELL
    return min(int(down * side), side - 1) * side + min(int(across * side), side - 1)


def by_cell(slots: Tensor, cell: int = CELL) -> Tensor:
    """(pictures, slots down, slots across) -> (pictures, cells, slots of a cell)."""
    pictures, down, across = slots.shape
    rows, columns = cell // SLOT_HEIGHT, cell // SLOT_WIDTH
    grid = slots.view(pictures, down // rows, rows, across // columns, columns)
    return grid.transpose(2, 3).reshape(pictures, -1, rows * columns)


def place_waves(side: int, device: torch.device) -> Tensor:
    """Where each cell is, in waves across and down: (cells, PLACE_WAVES), from -1 to 1."""
    waves = waves_along((torch.arange(side, device=device) + 0.5) / side)
    across, down = waves.expand(side, side, -1), waves[:, None].expand(side, side, -1)
    return torch.cat([across, down], -1).flatten(0, 1)


def waves_along(along: Tensor) -> Tensor:
    """(n,) places from 0 to 1 -> (n, PLACE_WAVES / 2)."""
    turns = torch.stack([along / length for length in _WAVELENGTHS], -1) * 2 * torch.pi
    return torch.cat([turns.sin(), turns.cos()], -1)
