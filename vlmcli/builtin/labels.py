"""What the eye is taught with: heads that name the characters and things under each cell.

They are thrown away after the training. Without them nothing is learnt: the few words of an answer
are too thin a signal for an encoder of pictures that starts from nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmcli.builtin.drawing import CHARS, COLOR_NAMES, SIDE, THINGS

# A slot of 4 by 8 pixels holds the middle of one character at most, even in small print.
SLOT_WIDTH, SLOT_HEIGHT = 4, 8
SLOTS_DOWN, SLOTS_ACROSS = SIDE // SLOT_HEIGHT, SIDE // SLOT_WIDTH


@dataclass(frozen=True, slots=True)
class Truth:
    """Labels of a batch of pictures."""

    slots: Tensor  # (batch, SLOTS_DOWN, SLOTS_ACROSS) int64: 0 or 1 + index in CHARS
    things: Tensor  # (batch, 20, 20) int64: 0 or 1 + index in THINGS
    colors: Tensor  # (batch, 20, 20) int64: 0 or 1 + index in COLOR_NAMES


class DenseHead(nn.Module):
    """Cells of `cell` pixels -> the characters in their slots, and the things under them."""

    def __init__(self, width: int, cell: int) -> None:
        super().__init__()
        self.down, self.across = cell // SLOT_HEIGHT, cell // SLOT_WIDTH
        self.parts = cell // 16  # cells of the labels of things on a side of this one
        self.norm = nn.LayerNorm(width)
        self.there = nn.Linear(width, self.down * self.across)
        self.which = nn.ModuleList(
            nn.Linear(width, len(CHARS)) for _ in range(self.down * self.across)
        )
        self.things = nn.Linear(width, self.parts**2 * (2 + len(THINGS) + len(COLOR_NAMES)))

    def forward(self, cells: Tensor, truth: Truth) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and sums from which the log counts what was right."""
        cells = self.norm(cells.float())
        side = round(cells.shape[1] ** 0.5)
        there = _spread(self.there(cells), side, self.down, self.across)[..., 0].float()
        held = truth.slots > 0
        found = functional.binary_cross_entropy_with_logits(
            there, held.float(), pos_weight=torch.tensor(3.0, device=there.device)
        )
        which, right = self._name_chars(cells, side, truth.slots)
        things, counts = _thing_loss(
            _spread(self.things(cells), side, self.parts, self.parts), truth
        )
        counts |= {
            "char": right,
            "chars": held.sum(),
            "found": (held & (there > 0)).sum(),
            "false": (~held & (there > 0)).sum(),
        }
        return which + 4 * found + things, counts

    def _name_chars(self, cells: Tensor, side: int, slots: Tensor) -> tuple[Tensor, Tensor]:
        """Which character, asked only where there is one: few slots hold any."""
        picture, row, column = (slots > 0).nonzero(as_tuple=True)
        cell = row // self.down * side + column // self.across
        place = row % self.down * self.across + column % self.across
        labels = slots[picture, row, column] - 1
        total, right = cells.sum() * 0, torch.zeros((), dtype=torch.int64, device=cells.device)
        for i, layer in enumerate(self.which):
            here = (place == i).nonzero(as_tuple=True)[0]
            named = layer(cells[picture[here], cell[here]]).float()  # (characters here, CHARS)
            total = total + functional.cross_entropy(
                named, labels[here], label_smoothing=0.02, reduction="sum"
            )
            right = right + (named.argmax(-1) == labels[here]).sum()
        return total / max(1, len(labels)), right


def _spread(cells: Tensor, side: int, down: int, across: int) -> Tensor:
    """(batch, side², down · across · n) -> (batch, side · down, side · across, n)."""
    grid = cells.view(cells.shape[0], side, side, down, across, -1).transpose(2, 3)
    return grid.reshape(cells.shape[0], side * down, side * across, -1)


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
