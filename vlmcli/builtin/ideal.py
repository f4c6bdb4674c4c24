"""An eye that makes no mistake, for the decoder to learn from while the real one still learns."""

import torch
from torch import Tensor, nn

from vlmcli.builtin.drawing import CHARS, COLOR_NAMES, THINGS
from vlmcli.builtin.labels import (
    ACROSS,
    DOWN,
    PLACE_WAVES,
    Truth,
    by_cell,
    place_waves,
    waves_along,
)


class IdealEye(nn.Module):
    """What an eye that makes no mistake would hand to the decoder, made from the labels.

    The decoder learns to answer from this, at a fraction of the cost of seeing, while the eye
    still learns to see; and the eye, with the connector behind it, learns to give the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.chars = nn.Embedding(DOWN * ACROSS * (1 + len(CHARS)), width)
        self.things = nn.Embedding(1 + len(THINGS), width)
        self.colors = nn.Embedding(1 + len(COLOR_NAMES), width)
        self.spans = nn.Linear(4, width, bias=False)
        self.column = nn.Linear(PLACE_WAVES // 2, width, bias=False)
        self.place = nn.Linear(PLACE_WAVES, width)
        for table in (self.chars, self.things, self.colors):
            nn.init.normal_(table.weight, std=width**-0.5)
        nn.init.normal_(self.spans.weight, std=width**-0.5)
        nn.init.normal_(self.column.weight, std=(2 / PLACE_WAVES / width) ** 0.5)
        # As large as one of them: what is there is not to drown in where it is.
        nn.init.normal_(self.place.weight, std=(2 / PLACE_WAVES / width) ** 0.5)
        with torch.no_grad():  # an empty slot, and a cell without a mark, say nothing
            self.chars.weight.view(DOWN * ACROSS, -1, width)[:, 0] = 0
            self.things.weight[0] = 0
            self.colors.weight[0] = 0

    def forward(self, truth: Truth, spoken: Tensor) -> Tensor:
        """(pictures, cells, width); `spoken` (len(SPOKEN), width) is how the decoder says each.

        What is seen of a character holds how it is spelt, and of a thing its name and that of its
        colour, so that they are found by them, and said, with little to learn.
        """
        cells = torch.arange(truth.things.numel(), device=truth.things.device)
        pictures = len(truth.things)
        return self.at(truth, spoken, cells).view(pictures, -1, spoken.shape[-1])

    def codes(self, spoken: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What stands for each character in each slot, (slots, characters, width), for each thing
        and for each colour: what is added to all the rest that a cell holds."""
        table = self.chars.weight.view(DOWN * ACROSS, 1 + len(CHARS), -1)
        chars, things, colors = spoken.tensor_split([len(CHARS), len(CHARS) + len(THINGS)])
        return (
            table[:, 1:] - table[:, :1] + chars,
            self.things.weight[1:] + things,
            self.colors.weight[1:] + colors,
        )

    def at(self, truth: Truth, spoken: Tensor, cells: Tensor) -> Tensor:
        """Of some cells alone, counted over all pictures: (cells, width). Most slots are empty, and
        only those that are not are looked up."""
        slots = by_cell(truth.slots)
        where = self.place(place_waves(truth.things.shape[-1], slots.device))
        where = where[cells % slots.shape[1]]
        slots = slots.flatten(0, 1)[cells]
        cell, slot = slots.nonzero(as_tuple=True)
        held = slots[cell, slot]
        empty = self.chars.weight.view(DOWN * ACROSS, 1 + len(CHARS), -1)[:, 0]
        chars = self.chars(slot * (1 + len(CHARS)) + held) - empty[slot]
        kinds, shades = (part.flatten()[cells] for part in truth.marks.unbind(1))
        _, thing_names, color_names = spoken.tensor_split([len(CHARS), len(CHARS) + len(THINGS)])
        nothing = spoken.new_zeros(1, spoken.shape[-1])
        marks = self.things(kinds) + torch.cat([nothing, thing_names])[kinds]
        marks = marks + self.colors(shades) + torch.cat([nothing, color_names])[shades]
        spans = self.spans(truth.spans.flatten(0, 2)[cells])
        seen: Tensor = marks + spans + self._column(truth, cells) + where + empty.sum(0)
        return seen.index_add(0, cell, (spoken[held - 1] + chars).to(seen.dtype))

    def _column(self, truth: Truth, cells: Tensor) -> Tensor:
        """Under and above what a word or a thing stands: where the middle of each is, across."""
        side = truth.things.shape[-1]
        held = (by_cell(truth.slots) > 0).any(-1).flatten()[cells]
        marked = truth.marks[:, 0].flatten()[cells] > 0
        words = (cells % side + 0.5 + 3 * truth.middles.flatten()[cells]) / side
        marks = (truth.spans.flatten(0, 2)[cells][:, 0] + 1) / 2
        across = torch.where(marked, marks, words)
        told: Tensor = self.column(waves_along(across)) * (held | marked).unsqueeze(-1)
        return told
