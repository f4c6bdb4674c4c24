"""What the eye is taught with: a head that names the characters and things under each cell.

It is thrown away after the training. Without it nothing is learnt: the few words of an answer
are too thin a signal for an encoder of pictures that starts from nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmcli.builtin.drawing import CELL, CHARS, COLOR_NAMES, SIDE, THINGS, Picture

# A slot of 4 by 8 pixels holds the middle of one character at most, even in small print.
SLOT_WIDTH, SLOT_HEIGHT = 4, 8
SLOTS_DOWN, SLOTS_ACROSS = SIDE // SLOT_HEIGHT, SIDE // SLOT_WIDTH
_DOWN, _ACROSS = CELL // SLOT_HEIGHT, CELL // SLOT_WIDTH
"""Slots of a cell."""
FINE = CELL // 2
"""Pixels of a cell of the finer head."""
FINE_SLOTS = FINE // SLOT_HEIGHT * (FINE // SLOT_WIDTH)
_WAVELENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the place of a cell, in sides of the picture."""
PLACE_WAVES = 4 * len(_WAVELENGTHS)
SPOKEN = (*CHARS, *THINGS, *COLOR_NAMES)
"""What is seen that the decoder has a token for."""
_MOST_THINGS = 8


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
        self.there = nn.Linear(width, _DOWN * _ACROSS)
        self.slots = Slots(width, _DOWN * _ACROSS, len(CHARS))
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
    up to each; causal attention can know it, as what stands before comes first. At the name of a
    shape in a question: how many there are, and what the one is like. Where a character is to be
    said next: where it stands.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.before = nn.ModuleList(Slots(width, _DOWN * _ACROSS, 2 + len(CHARS)) for _ in range(2))
        self.count = nn.Linear(width, _MOST_THINGS)
        self.named = nn.Linear(width, 1 + _MOST_THINGS + 1 + len(COLOR_NAMES) + 4)
        self.where = nn.Linear(width, PLACE_WAVES)

    def forward(self, hidden: Tensor, truth: Truth, cells: Tensor) -> tuple[Tensor, Tensor]:
        """(cells, width) of some cells, counted over all pictures -> loss, number right."""
        hidden = self.norm(hidden.float())[None]
        loss, right = hidden.sum() * 0, torch.zeros((), device=hidden.device)
        for head, before in zip(self.before, truth.before.unbind(1), strict=True):
            slots = by_cell(before).flatten(0, 1)[cells][None]
            more, hits = head(hidden, slots)
            loss, right = loss + more, right + hits
        marked = truth.marks[:, 0].flatten(1) > 0
        counted = marked.cumsum(1).clamp(max=_MOST_THINGS).flatten()[cells]
        if (here := marked.flatten()[cells]).any():
            told = self.count(hidden[0, here]).float()
            loss = loss + functional.cross_entropy(told, counted[here] - 1)
        return loss, right

    def look_up(self, hidden: Tensor, many: Tensor, colors: Tensor, spans: Tensor) -> Tensor:
        """(names, width) -> the loss; `colors` are 0 where there are several, or none."""
        if not len(hidden):
            return hidden.sum() * 0
        told = self.named(self.norm(hidden.float())).float()
        counts, shades, places = torch.split(told, [1 + _MOST_THINGS, 1 + len(COLOR_NAMES), 4], -1)
        loss = functional.cross_entropy(counts, many.clamp(max=_MOST_THINGS))
        if (one := colors > 0).any():
            loss = loss + functional.cross_entropy(shades[one], colors[one])
            loss = loss + functional.smooth_l1_loss(places[one], spans[one], beta=0.1)
        return loss

    def look_for(self, hidden: Tensor, where: Tensor) -> Tensor:
        """(characters, width), and x and y of each, from 0 to 1 -> the loss."""
        if not len(hidden):
            return hidden.sum() * 0
        told = self.where(self.norm(hidden.float())).float()
        across, down = where.unbind(-1)
        wanted = torch.cat([_waves(across), _waves(down)], -1)
        return functional.smooth_l1_loss(told, wanted, beta=0.1)


class IdealEye(nn.Module):
    """What an eye that makes no mistake would hand to the decoder, made from the labels.

    The decoder learns to answer from this, at a fraction of the cost of seeing, while the eye
    still learns to see; and the eye, with the connector behind it, learns to give the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.chars = nn.Embedding(_DOWN * _ACROSS * (1 + len(CHARS)), width)
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
            self.chars.weight.view(_DOWN * _ACROSS, -1, width)[:, 0] = 0
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
        told: Tensor = self.column(_waves(across)) * (held | marked).unsqueeze(-1)
        return told


def by_cell(slots: Tensor, cell: int = CELL) -> Tensor:
    """(pictures, slots down, slots across) -> (pictures, cells, slots of a cell)."""
    pictures, down, across = slots.shape
    rows, columns = cell // SLOT_HEIGHT, cell // SLOT_WIDTH
    grid = slots.view(pictures, down // rows, rows, across // columns, columns)
    return grid.transpose(2, 3).reshape(pictures, -1, rows * columns)


def place_waves(side: int, device: torch.device) -> Tensor:
    """Where each cell is, in waves across and down: (cells, PLACE_WAVES), from -1 to 1."""
    waves = _waves((torch.arange(side, device=device) + 0.5) / side)
    across, down = waves.expand(side, side, -1), waves[:, None].expand(side, side, -1)
    return torch.cat([across, down], -1).flatten(0, 1)


def _waves(along: Tensor) -> Tensor:
    """(n,) places from 0 to 1 -> (n, PLACE_WAVES / 2)."""
    turns = torch.stack([along / length for length in _WAVELENGTHS], -1) * 2 * torch.pi
    return torch.cat([turns.sin(), turns.cos()], -1)


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


def _balanced(logits: Tensor, labels: Tensor, seen: Tensor) -> Tensor:
    """Cross entropy in which cells with a thing and cells without one weigh the same."""
    losses = functional.cross_entropy(logits.flatten(0, 2), labels.flatten(), reduction="none")
    there = seen.flatten().float()
    with_thing = (losses * there).sum() / there.sum().clamp(min=1)
    without = (losses * (1 - there)).sum() / (1 - there).sum().clamp(min=1)
    return (with_thing + without) / 2


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
