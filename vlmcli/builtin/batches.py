"""Pictures and questions -> tensors for one step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from vlmcli.builtin import pages, tokens
from vlmcli.builtin.drawing import Picture
from vlmcli.builtin.fonts import Face
from vlmcli.builtin.labels import Truth, slots_of
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
        truth = Truth(
            self.truth.slots.to(device), self.truth.things.to(device), self.truth.colors.to(device)
        )
        return Seen(self.pixels.to(device), truth)


@dataclass(frozen=True, slots=True)
class Lesson:
    """Scenes, each with its questions packed behind its pictures.

    `allowed` says which token sees which: a question sees the pictures, not the other questions.
    """

    seen: Seen
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


def tiles(rng: Random, faces: list[Face], level: float, count: int) -> Iterator[Seen]:
    """Quarters of four batches' worth of pages, `count` at a time, in any order."""
    drawn = stack([pages.page(rng, faces, level) for _ in range(max(1, count))])
    pool = [(i, y, x) for i in range(len(drawn.pixels)) for y in (0, 1) for x in (0, 1)]
    rng.shuffle(pool)
    for at in range(0, len(pool) - count + 1, count):
        yield _cut(drawn, pool[at : at + count])


def _cut(drawn: Seen, places: list[tuple[int, int, int]]) -> Seen:
    def part(whole: Tensor) -> Tensor:
        down, across = whole.shape[1] // 2, whole.shape[2] // 2
        return torch.stack(
            [
                whole[i, y * down : (y + 1) * down, x * across : (x + 1) * across]
                for i, y, x in places
            ]
        )

    truth = drawn.truth
    return Seen(
        part(drawn.pixels), Truth(part(truth.slots), part(truth.things), part(truth.colors))
    )


class Packer:
    """Scenes -> lessons."""

    def __init__(self, speller: Speller, image_id: int, end_id: int, pad_id: int) -> None:
        self._speller, self._image, self._end, self._pad = speller, image_id, end_id, pad_id

    def pack(self, scenes: Sequence[Scene]) -> Lesson:
        rows = [self._row(scene) for scene in scenes]
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
        pictures = [picture for scene in scenes for picture in scene.pictures]
        return Lesson(stack(pictures), ids, labels, positions, allowed, answers, tuple(kinds))

    def _row(self, scene: Scene) -> "_Row":
        spell = self._speller
        row = _Row([], [], [], [], [])
        system = f"System: {scene.system}{tokens.END}\n" if scene.system else ""
        row.add(spell.question(f"{tokens.START}{system}User: "), 0, 0)
        for before, _ in zip(
            scene.times or [""] * len(scene.pictures), scene.pictures, strict=True
        ):
            row.add([*spell.question(before), *[self._image] * IMAGE_TOKENS], 0, len(row.ids))
        prefix = len(row.ids)
        for number, (question, answer) in enumerate(scene.pairs):
            segment = 0 if scene.chat else number + 1
            start = len(row.ids) if scene.chat else prefix
            again = "User: " if scene.chat and number else ""
            asked = spell.question(f"{again}{question}{tokens.END}\nAssistant: ")
            said = [*spell.answer(answer), self._end]
            row.add(asked, segment, start)
            row.add(said, segment, start + len(asked), answer=number)
            if scene.chat:
                row.add(spell.question("\n"), segment, len(row.ids))
        return row


@dataclass(frozen=True, slots=True)
class _Row:
    ids: list[int]
    labels: list[int]
    positions: list[int]
    segments: list[int]
    answers: list[int]

    def add(self, ids: list[int], segment: int, start: int, answer: int = -1) -> None:
        if answer >= 0:  # what comes next is the label: the last token before knows the first
            self.labels[-1], self.answers[-1] = ids[0], answer
            self.labels.extend([*ids[1:], IGNORED])
            self.answers.extend([*[answer] * (len(ids) - 1), -1])
        else:
            self.labels.extend([IGNORED] * len(ids))
            self.answers.extend([-1] * len(ids))
        self.ids.extend(ids)
        self.positions.extend(range(start, start + len(ids)))
        self.segments.extend([segment] * len(ids))
