"""What the eye is taught with: a head that names the characters and things under each cell.

It is thrown away after the training. Without it nothing is learnt: the few words of an answer
are too thin a signal for an encoder of pictures that starts from nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmcli.builtin.drawing import CELL, CHARS, COLOR_NAMES, SIDE, THINGS

# A slot of 4 by 8 pixels holds the middle of one character at most, even in small print.
SLOT_WIDTH, SLOT_HEIGHT = 4, 8
SLOTS_DOWN, SLOTS_ACROSS = SIDE // SLOT_HEIGHT, SIDE // SLOT_WIDTH
_DOWN, _ACROSS = CELL // SLOT_HEIGHT, CELL // SLOT_WIDTH
"""Slots of a cell."""
_WAVELENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Of the place of a cell, in sides of the picture."""
PLACE_WAVES = 4 * len(_WAVELENGTHS)


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels of a batch of pictures."""

    slots: Tensor  # (batch, SLOTS_DOWN, SLOTS_ACROSS) int64: 0 or 1 + index in CHARS
    things: Tensor  # (batch, cells down, cells across) int64: 0 or 1 + index in THINGS
    colors: Tensor  # (batch, cells down, cells across) int64: 0 or 1 + index in COLOR_NAMES


class DenseHead(nn.Module):
    """Cells -> the characters in their slots, and the things under them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.there = nn.Linear(width, _DOWN * _ACROSS)
        self.which = nn.ModuleList(nn.Linear(width, len(CHARS)) for _ in range(_DOWN * _ACROSS))
        self.things = nn.Linear(width, 2 + len(THINGS) + len(COLOR_NAMES))

    def forward(self, cells: Tensor, truth: Truth) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and sums from which the log counts what was right."""
        cells = self.norm(cells.float())
        side = round(cells.shape[1] ** 0.5)
        slots = by_cell(truth.slots)
        held = slots > 0
        there = self.there(cells).float()
        found = functional.binary_cross_entropy_with_logits(
            there, held.float(), pos_weight=torch.tensor(3.0, device=there.device)
        )
        which, right = self._name_chars(cells, slots)
        things = self.things(cells).view(len(cells), side, side, -1)
        thing_loss, counts = _thing_loss(things, truth)
        counts |= {
            "char": right,
            "chars": held.sum(),
            "found": (held & (there > 0)).sum(),
            "false": (~held & (there > 0)).sum(),
        }
        return which + 4 * found + thing_loss, counts

    def _name_chars(self, cells: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Which character, asked only where there is one: few slots hold any."""
        picture, cell, place = (slots > 0).nonzero(as_tuple=True)
        labels = slots[picture, cell, place] - 1
        total, right = cells.sum() * 0, torch.zeros((), dtype=torch.int64, device=cells.device)
        for i, layer in enumerate(self.which):
            here = (place == i).nonzero(as_tuple=True)[0]
            named = layer(cells[picture[here], cell[here]]).float()  # (characters here, CHARS)
            total = total + functional.cross_entropy(
                named, labels[here], label_smoothing=0.02, reduction="sum"
            )
            right = right + (named.argmax(-1) == labels[here]).sum()
        return total / max(1, len(labels)), right


class IdealEye(nn.Module):
    """What an eye that makes no mistake would hand to the decoder, made from the labels.

    The decoder learns to answer from this, at a fraction of the cost of seeing, while the eye
    still learns to see; and the eye, with the connector behind it, learns to give the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.chars = nn.Embedding(_DOWN * _ACROSS * (1 + len(CHARS)), width)
        self.things = nn.Embedding((1 + len(THINGS)) * (1 + len(COLOR_NAMES)), width)
        self.place = nn.Linear(PLACE_WAVES, width)
        for table in (self.chars, self.things):
            nn.init.normal_(table.weight, std=width**-0.5)
        # As large as one of them: what is there is not to drown in where it is.
        nn.init.normal_(self.place.weight, std=(2 / PLACE_WAVES / width) ** 0.5)
        with torch.no_grad():  # an empty slot says nothing
            self.chars.weight.view(_DOWN * _ACROSS, -1, width)[:, 0] = 0

    def forward(self, truth: Truth, spoken: Tensor) -> Tensor:
        """(pictures, cells, width); `spoken` (len(CHARS), width) is how the decoder spells each.

        What is seen of a character holds how it is spelt, so that copying it is easily learnt.
        """
        slots = by_cell(truth.slots)
        spelt = functional.pad(spoken, (0, 0, 1, 0))[slots].sum(2)
        first = torch.arange(slots.shape[-1], device=slots.device) * (1 + len(CHARS))
        things = (truth.things * (1 + len(COLOR_NAMES)) + truth.colors).flatten(1)
        where = self.place(place_waves(truth.things.shape[-1], slots.device))
        drawn: Tensor = self.chars(slots + first).sum(2) + self.things(things) + where
        return spelt + drawn

    def at(self, truth: Truth, spoken: Tensor, cells: Tensor) -> Tensor:
        """Of some cells alone, counted over all pictures: (cells, width). Most slots are empty, and
        only those that are not are looked up."""
        slots = by_cell(truth.slots)
        where = self.place(place_waves(truth.things.shape[-1], slots.device))
        where = where[cells % slots.shape[1]]
        slots = slots.flatten(0, 1)[cells]
        cell, slot = slots.nonzero(as_tuple=True)
        held = slots[cell, slot]
        empty = self.chars.weight.view(_DOWN * _ACROSS, 1 + len(CHARS), -1)[:, 0]
        chars = self.chars(slot * (1 + len(CHARS)) + held) - empty[slot]
        things = (truth.things * (1 + len(COLOR_NAMES)) + truth.colors).flatten()[cells]
        seen: Tensor = self.things(things) + where + empty.sum(0)
        return seen.index_add(0, cell, spoken[held - 1] + chars)


def by_cell(slots: Tensor) -> Tensor:
    """(pictures, slots down, slots across) -> (pictures, cells, slots of a cell)."""
    pictures, down, across = slots.shape
    grid = slots.view(pictures, down // _DOWN, _DOWN, across // _ACROSS, _ACROSS)
    return grid.transpose(2, 3).reshape(pictures, -1, _DOWN * _ACROSS)


def place_waves(side: int, device: torch.device) -> Tensor:
    """Where each cell is, in waves across and down: (cells, PLACE_WAVES), from -1 to 1."""
    along = (torch.arange(side, device=device) + 0.5) / side
    turns = torch.stack([along / length for length in _WAVELENGTHS], -1) * 2 * torch.pi
    waves = torch.cat([turns.sin(), turns.cos()], -1)
    across, down = waves.expand(side, side, -1), waves[:, None].expand(side, side, -1)
    return torch.cat([across, down], -1).flatten(0, 1)


def _thing_loss(logits: Tensor, truth: Truth) -> tuple[Tensor, dict[str, Tensor]]:
    kinds, shades = torch.split(logits.float(), [1 + len(THINGS), 1 + len(COLOR_NAMES)], dim=-1)
    seen = truth.things > 0
    loss = _balanced(kinds, truth.things, seen) + _balanced(shades, truth.colors, seen)
    counts = {
        "thing": (kinds.argmax(-1) == truth.things)[seen].sum(),
        "color": (shades.argmax(-1) == truth.colors)[seen].sum(),
        "things": seen.sum(),
    }
    return loss, counts


def _balanced(logits: Tensor, labels: Tensor, seen: Tensor) -> Tensor:
    """Cross entropy in which cells with a thing and cells without one weigh the same."""
    losses = functional.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none")
    there = seen.flatten().float()
    with_thing = (losses * there).sum() / there.sum().clamp(min=1)
    without = (losses * (1 - there)).sum() / (1 - there).sum().clamp(min=1)
    return (with_thing + without) / 2


def slots_of(chars: Tensor) -> Tensor:
    """Rows (x, y, index) of one picture's characters -> (SLOTS_DOWN, SLOTS_ACROSS) labels."""
    slots = torch.zeros(SLOTS_DOWN, SLOTS_ACROSS, dtype=torch.int64)
    # The largest number below 1 is rounded up to the number of slots when it is multiplied.
    rows = (chars[:, 1] * SLOTS_DOWN).long().clamp(max=SLOTS_DOWN - 1)
    columns = (chars[:, 0] * SLOTS_ACROSS).long().clamp(max=SLOTS_ACROSS - 1)
    slots[rows, columns] = chars[:, 2].long() + 1
    return slots
