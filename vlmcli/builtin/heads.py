"""What the model is taught with: heads that name what is seen, and what is to be done with it.

They are thrown away after the training. Without them nothing is learnt: the few words of an answer
are too thin a signal for an encoder of pictures that starts from nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmcli.builtin.drawing import CHARS, COLOR_NAMES, THINGS
from vlmcli.builtin.labels import (
    ACROSS,
    CHANGES,
    DOWN,
    FINE,
    FINE_SLOTS,
    PLACE_WAVES,
    Truth,
    by_cell,
    waves_along,
)

MOST_THINGS = 8
"""That are counted."""


class Slots(nn.Module):
    """Which of `classes` is in each slot of a cell that holds one, from the cell's features."""

    def __init__(self, width: int, slots: int, classes: int) -> None:
        super().__init__()
        self.which = nn.ModuleList(nn.Linear(width, classes) for _ in range(slots))

    def forward(self, cells: Tensor, slots: Tensor) -> tuple[Tensor, Tensor]:
        """(pictures, cells, width), and labels from 1 a slot of a cell -> loss, number right."""
        picture, cell, place = (slots > 0).nonzero(as_tuple=True)
        labels = slots[picture, cell, place] - 1
        total, right = cells.sum() * 0, torch.zeros((), dtype=torch.int64, device=cells.device)
        for i, layer in enumerate(self.which):
            here = (place == i).nonzero(as_tuple=True)[0]
            named = layer(cells[picture[here], cell[here]]).float()
            total = total + functional.cross_entropy(
                named, labels[here], label_smoothing=0.02, reduction="sum"
            )
            right = right + (named.argmax(-1) == labels[here]).sum()
        return total / max(1, len(labels)), right


class FineHead(nn.Module):
    """The characters again, at twice the resolution: each is learnt for fewer places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.slots = Slots(width, FINE_SLOTS, len(CHARS))
        self.there = nn.Linear(width, FINE_SLOTS)

    def forward(self, cells: Tensor, truth: Truth) -> tuple[Tensor, dict[str, Tensor]]:
        cells = self.norm(cells.float())
        slots = by_cell(truth.slots, FINE)
        which, right = self.slots(cells, slots)
        return which + 2 * _presence(self.there(cells).float(), slots > 0), {"fine": right}


class DenseHead(nn.Module):
    """Cells -> the characters in their slots, and the things under them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.there = nn.Linear(width, DOWN * ACROSS)
        self.slots = Slots(width, DOWN * ACROSS, len(CHARS))
        self.things = nn.Linear(width, 2 + len(THINGS) + len(COLOR_NAMES))
        self.marks = nn.Linear(width, 2 + len(THINGS) + len(COLOR_NAMES))
        self.spans = nn.Linear(width, 5)

    def forward(self, cells: Tensor, truth: Truth) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and sums from which the log counts what was right."""
        cells = self.norm(cells.float())
        side = round(cells.shape[1] ** 0.5)
        slots = by_cell(truth.slots)
        held = slots > 0
        there = self.there(cells).float()
        which, right = self.slots(cells, slots)
        things = self.things(cells).view(len(cells), side, side, -1)
        thing_loss, counts = _thing_loss(things, truth.things, truth.colors)
        marks = self.marks(cells).view(len(cells), side, side, -1)
        mark_loss, marked = _thing_loss(marks, *truth.marks.unbind(1))
        spans = self.spans(cells).float().view(len(cells), side, side, -1)
        counts |= {
            "char": right,
            "chars": held.sum(),
            "found": (held & (there > 0)).sum(),
            "false": (~held & (there > 0)).sum(),
            "mark": marked["thing"],
            "marks": marked["things"],
        }
        loss = which + 4 * _presence(there, held) + thing_loss + mark_loss
        return loss + _span_loss(spans, truth, held.any(-1).view(len(cells), side, side)), counts


class DeepHead(nn.Module):
    """What the decoder had better know half way up, as answers are made of it.

    At the cells: which character stands before each, and before that, and how many things there are
    up to each; causal attention can know it, as what stands before comes first; and what became of
    each thing since the picture before. At the name of a shape in a question: how many there are,
    and what the one is like; and how the one named before stands to it. Where a character is to be
    said next: where it stands.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.before = nn.ModuleList(Slots(width, DOWN * ACROSS, 2 + len(CHARS)) for _ in range(2))
        self.count = nn.Linear(width, MOST_THINGS)
        self.named = nn.Linear(width, 1 + MOST_THINGS + 1 + len(COLOR_NAMES) + 4)
        self.where = nn.Linear(width, PLACE_WAVES)
        self.stands = nn.Linear(width, 3)
        self.since = nn.Linear(width, len(CHANGES))

    def forward(self, hidden: Tensor, truth: Truth, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(cells, width) of some cells, counted over all pictures -> loss, number right."""
        hidden = self.norm(hidden.float())[None]
        loss, right = hidden.sum() * 0, torch.zeros((), device=hidden.device)
        for head, before in zip(self.before, truth.before.unbind(1), strict=True):
            slots = by_cell(before).flatten(0, 1)[cells][None]
            more, hits = head(hidden, slots)
            loss, right = loss + more, right + hits
        marked = truth.marks[:, 0].flatten(1) > 0
        counted = marked.cumsum(1).clamp(max=MOST_THINGS).flatten()[cells]
        if (here := marked.flatten()[cells]).any():
            told = self.count(hidden[0, here]).float()
            loss = loss + functional.cross_entropy(told, counted[here] - 1)
        return loss, right

    def look_up(self, hidden: Tensor, many: Tensor, colors: Tensor, spans: Tensor) -> Tensor:
        """(names, width) -> the loss; `colors` are 0 where there are several, or none."""
        if not len(hidden):
            return hidden.sum() * 0
        told = self.named(self.norm(hidden.float())).float()
        counts, shades, places = torch.split(told, [1 + MOST_THINGS, 1 + len(COLOR_NAMES), 4], -1)
        loss = functional.cross_entropy(counts, many.clamp(max=MOST_THINGS))
        if (one := colors > 0).any():
            loss = loss + functional.cross_entropy(shades[one], colors[one])
            loss = loss + functional.smooth_l1_loss(places[one], spans[one], beta=0.1)
        return loss

    def compare(self, hidden: Tensor, one: Tensor, other: Tensor) -> Tensor:
        """(pairs, width), and the spans of both -> the loss of whether the one is further left,
        higher up, larger."""
        if not len(hidden):
            return hidden.sum() * 0
        told = self.stands(self.norm(hidden.float())).float()
        across, down = (other - one)[:, :2].unbind(-1)
        larger = (one - other)[:, 2:].sum(-1)
        truth = torch.stack([across > 0, down > 0, larger > 0], -1).float()
        return functional.binary_cross_entropy_with_logits(told, truth)

    def compare_pictures(self, hidden: Tensor, change: Tensor) -> Tensor:
        """(things, width), and what became of each since the picture before -> the loss."""
        if not len(hidden):
            return hidden.sum() * 0
        return functional.cross_entropy(self.since(self.norm(hidden.float())).float(), change)

    def look_for(self, hidden: Tensor, where: Tensor) -> Tensor:
        """(characters, width), and x and y of each, from 0 to 1 -> the loss."""
        if not len(hidden):
            return hidden.sum() * 0
        told = self.where(self.norm(hidden.float())).float()
        across, down = where.unbind(-1)
        wanted = torch.cat([waves_along(across), waves_along(down)], -1)
        return functional.smooth_l1_loss(told, wanted, beta=0.1)


def _presence(there: Tensor, held: Tensor) -> Tensor:
    weight = torch.tensor(3.0, device=there.device)
    return functional.binary_cross_entropy_with_logits(there, held.float(), pos_weight=weight)


def _thing_loss(logits: Tensor, things: Tensor, colors: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    kinds, shades = torch.split(logits.float(), [1 + len(THINGS), 1 + len(COLOR_NAMES)], dim=-1)
    seen = things > 0
    loss = _balanced(kinds, things, seen) + _balanced(shades, colors, seen)
    counts = {
        "thing": (kinds.argmax(-1) == things)[seen].sum(),
        "color": (shades.argmax(-1) == colors)[seen].sum(),
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


def _span_loss(told: Tensor, truth: Truth, printed: Tensor) -> Tensor:
    """Where the marks are and how large, and where the middle of a word is."""
    marked = truth.marks[:, 0] > 0
    loss = told.sum() * 0
    if marked.any():
        loss = loss + 20 * functional.smooth_l1_loss(
            told[marked][:, :4], truth.spans[marked], beta=0.05
        )
    if printed.any():
        loss = loss + functional.smooth_l1_loss(told[printed][:, 4], truth.middles[printed])
    return loss
