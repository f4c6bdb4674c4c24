"""One row of a step: a scene's pictures and questions as tokens, with what is asked of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vlmcli.builtin.labels import CHANGES, cell_at
from vlmcli.builtin.model import IMAGE_TOKENS
from vlmcli.builtin.samples import Place

NOWHERE = (-1.0, -1.0)
LEAST_MOVE, LEAST_GROWTH = 0.04, 1.5
"""In sides of the picture, and in area."""
IGNORED = -100
"""The label of tokens that the model is not taught to say."""


@dataclass(slots=True)
class Row:
    """What `Packer.pack` makes tensors of; all lists but `since` are of one length."""

    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    where: list[Place] = field(default_factory=list)
    since: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0  # the position of what comes next

    def add(self, ids: list[int], segment: int, answer: int = -1) -> None:
        if answer >= 0:  # what comes next is the label: the last token before knows the first
            self.labels[-1], self.answers[-1] = ids[0], answer
            self.labels.extend([*ids[1:], IGNORED])
            self.answers.extend([*[answer] * (len(ids) - 1), -1])
        else:
            self.labels.extend([IGNORED] * len(ids))
            self.answers.extend([-1] * len(ids))
        self.ids.extend(ids)
        self.positions.extend(range(self.end, self.end + len(ids)))
        self.segments.extend([segment] * len(ids))
        self.where.extend([NOWHERE] * len(ids))
        self.end += len(ids)

    def look(self, places: Sequence[Place | None]) -> None:
        """The answer just added is read from there: known one token before it is said."""
        start = len(self.where) - len(places) - 2
        for i, place in enumerate(places):
            self.where[start + i] = place or NOWHERE

    def add_image(self, image: int, cells: Sequence[int], where: Mapping[int, Place]) -> None:
        """The kept cells, each at its own place among the IMAGE_TOKENS of the whole picture."""
        start = self.end
        self.add([image] * len(cells), 0)
        for i, cell in enumerate(cells, len(self.where) - len(cells)):
            self.where[i] = where.get(cell, NOWHERE)
        if cells:
            self.positions[-len(cells) :] = [start + cell for cell in cells]
        self.end = start + IMAGE_TOKENS

    def compare(self, cells: Sequence[int], before: np.ndarray, after: np.ndarray) -> None:
        """What became of the things of the picture just added, of which these are the marks."""
        start = len(self.ids) - len(cells)
        place = {cell: start + i for i, cell in enumerate(cells)}
        for thing in after:
            same = before[before[:, 4] == thing[4]]
            if len(same) < 2 and (column := place.get(cell_at(*thing[:2]))) is not None:
                change = _change(same[0], thing) if len(same) else "new"
                self.since.append((column, CHANGES.index(change)))


def _change(before: np.ndarray, after: np.ndarray) -> str:
    x, y = after[:2] - before[:2]
    larger = float(after[2] * after[3] / (before[2] * before[3]))
    if before[5] != after[5]:
        return "color"
    if max(abs(x), abs(y)) > LEAST_MOVE:
        if abs(x) > abs(y):
            return "right" if x > 0 else "left"
        return "down" if y > 0 else "up"
    if max(larger, 1 / larger) > LEAST_GROWTH:
        return "larger" if larger > 1 else "smaller"
    return "same"
