"""Pictures and questions -> tensors for one step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import torch
from torch import Tensor

from vlmcli.builtin import tokens
from vlmcli.builtin.drawing import Picture
from vlmcli.builtin.labels import Truth, by_cell, slots_of
from vlmcli.builtin.model import IMAGE_TOKENS
from vlmcli.builtin.samples import Scene
from vlmcli.builtin.tokens import Speller

IGNORED = -100
"""The label of tokens that the model is not taught to say."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Pictures with their labels."""

    pixels: Tensor  # (pictures, height, width, 3) uint8
    truth: Truth

    def to(self, device: str) -> "Seen":
        return self._each(lambda part: part.to(device))

    def first(self, count: int) -> "Seen":
        return self._each(lambda part: part[:count])

    def __add__(self, other: "Seen") -> "Seen":
        one, more = self.truth, other.truth
        return Seen(
            torch.cat([self.pixels, other.pixels]),
            Truth(
                torch.cat([one.slots, more.slots]),
                torch.cat([one.things, more.things]),
                torch.cat([one.colors, more.colors]),
            ),
        )

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Seen":
        pixels, truth = change(self.pixels), self.truth
        return Seen(pixels, Truth(change(truth.slots), change(truth.things), change(truth.colors)))


@dataclass(frozen=True, slots=True)
class Lesson:
    """Scenes, each with its questions packed behind its pictures.

    `allowed` says which token sees which: a question sees the pictures, not the other questions.
    """

    seen: Seen
    cells: Tensor  # (image tokens,) int64: of which cell each is, counted over all pictures
    ids: Tensor  # (scenes, length) int64
    labels: Tensor  # (scenes, length) int64: the next token to say, or IGNORED
    positions: Tensor  # (scenes, length) int64
    allowed: Tensor  # (scenes, 1, length, length) bool
    answers: (
        Tensor  # (scenes, length) int64: the number of the answer, from 0 over the batch, or -1
    )
    kinds: tuple[str, ...]  # of each answer

    def to(self, device: str) -> "Lesson":
        return Lesson(
            self.seen.to(device),
            self.cells.to(device),
            self.ids.to(device),
            self.labels.to(device),
            self.positions.to(device),
            self.allowed.to(device),
            self.answers.to(device),
            self.kinds,
        )


def stack(pictures: Sequence[Picture]) -> Seen:
    slots = torch.stack([slots_of(torch.from_numpy(picture.chars)) for picture in pictures])
    things = torch.from_numpy(np.stack([picture.things for picture in pictures])).long()
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    return Seen(pixels, Truth(slots, things[:, 0], things[:, 1]))


class Packer:
    """Scenes -> lessons."""

    def __init__(self, speller: Speller, image_id: int, end_id: int, pad_id: int) -> None:
        self._speller, self._image, self._end, self._pad = speller, image_id, end_id, pad_id

    def pack(self, scenes: Sequence[Scene], rng: Random, *, sparse: bool = False) -> Lesson:
        """With `sparse`, most cells that are blank, or the inside of something, are left out.

        That is for imagining alone: their places stay empty, and the rest is the quicker learnt.
        """
        seen = stack([picture for scene in scenes for picture in scene.pictures])
        kept = _kept(seen.truth, rng) if sparse else [list(range(IMAGE_TOKENS))] * len(seen.pixels)
        rows, first = [], 0
        for scene in scenes:
            rows.append(self._row(scene, kept[first : first + len(scene.pictures)], rng))
            first += len(scene.pictures)
        length = -(-max(len(row.ids) for row in rows) // 16) * 16
        shape = (len(rows), length)
        ids, labels = torch.full(shape, self._pad), torch.full(shape, IGNORED)
        positions, answers = torch.zeros(shape, dtype=torch.int64), torch.full(shape, -1)
        allowed = torch.zeros(len(rows), 1, length, length, dtype=torch.bool)
        allowed[:, :, torch.arange(length), torch.arange(length)] = True  # padding sees itself
        kinds: list[str] = []
        for i, (row, scene) in enumerate(zip(rows, scenes, strict=True)):
            n = len(row.ids)
            ids[i, :n], labels[i, :n] = torch.tensor(row.ids), torch.tensor(row.labels)
            positions[i, :n] = torch.tensor(row.positions)
            numbered = torch.tensor(row.answers)
            answers[i, :n] = torch.where(numbered >= 0, numbered + len(kinds), -1)
            segment = torch.tensor(row.segments)
            sees = (segment[:, None] == segment[None, :]) | (segment[None, :] == 0)
            allowed[i, 0, :n, :n] = sees & torch.ones(n, n, dtype=torch.bool).tril()
            kinds += [scene.kind if answer != tokens.CANNOT_TELL else f"{scene.kind}?"
                      for _, answer in scene.pairs]  # fmt: skip
        cells = [i * IMAGE_TOKENS + cell for i, some in enumerate(kept) for cell in some]
        return Lesson(
            seen,
            torch.tensor(cells, dtype=torch.int64),  # there may be none
            ids,
            labels,
            positions,
            allowed,
            answers,
            tuple(kinds),
        )

    def length(self, scene: Scene) -> int:
        """About how many tokens the row of a scene has, packed sparsely."""
        kept = _kept(stack(scene.pictures).truth, Random(0))
        return len(self._row(scene, kept, Random(0)).ids)

    def _row(self, scene: Scene, kept: Sequence[Sequence[int]], misspelt: Random) -> "_Row":
        spell = self._speller
        row = _Row()
        system = f"System:{scene.system}{tokens.END}" if scene.system else ""
        row.add(spell.question(f"{tokens.START}{system}User:"), 0)
        for before, cells in zip(scene.times or [""] * len(kept), kept, strict=True):
            row.add(spell.question(before), 0)
            row.add_image(self._image, cells)
        prefix = row.end
        for number, (question, answer) in enumerate(scene.pairs):
            segment = 0 if scene.chat else number + 1
            if not scene.chat:
                row.end = prefix
            if scene.chat and number:
                row.add(spell.question("User:"), segment)
            row.add(spell.question(question, misspelt), segment)
            row.add(spell.question(f"{tokens.END}Assistant:"), segment)
            row.add([*spell.answer(answer), self._end], segment, answer=number)
        return row


def _kept(truth: Truth, rng: Random) -> list[list[int]]:
    """The cells of each picture with print or at an edge of something, and a few more."""
    printed = (by_cell(truth.slots) > 0).any(-1)
    marks = truth.things * 16 + truth.colors
    edge = torch.zeros_like(marks, dtype=torch.bool)
    for axis in (1, 2):
        differs = marks.diff(dim=axis) != 0
        size = marks.shape[axis] - 1
        edge.narrow(axis, 0, size).logical_or_(differs)
        edge.narrow(axis, 1, size).logical_or_(differs)
    told = (printed | (edge & (marks > 0)).flatten(1)).tolist()
    share = rng.choice((0.02, 0.02, 0.05, 0.2))
    return [
        [cell for cell, matters in enumerate(row) if matters or rng.random() < share]
        for row in told
    ]


@dataclass(slots=True)
class _Row:
    ids: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
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
        self.end += len(ids)

    def add_image(self, image: int, cells: Sequence[int]) -> None:
        """The kept cells, each at its own place among the IMAGE_TOKENS of the whole picture."""
        start = self.end
        self.add([image] * len(cells), 0)
        if cells:
            self.positions[-len(cells) :] = [start + cell for cell in cells]
        self.end = start + IMAGE_TOKENS
