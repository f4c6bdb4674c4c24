"""Pictures and questions -> tensors for one step."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vlmcli.builtin import tokens
from vlmcli.builtin.drawing import SHAPES, Picture
from vlmcli.builtin.labels import Truth, by_cell, cell_at, span_of, truth_of
from vlmcli.builtin.model import IMAGE_TOKENS
from vlmcli.builtin.rows import IGNORED, NOWHERE, Row
from vlmcli.builtin.samples import Place, Scene
from vlmcli.builtin.tokens import Speller


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
        return Seen(torch.cat([self.pixels, other.pixels]), self.truth + other.truth)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Seen":
        return Seen(change(self.pixels), self.truth.each(change))


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
    where: Tensor  # (scenes, length, 2) float: of what is to be read for it, see `_places`, or -1
    named: Tensor  # (names, 5) int64: see `Packer._named`
    spans: Tensor  # (names, 4) float: of the shape, if there is one and no other
    since: Tensor  # (things, 3) int64: row, column, and index in CHANGES, see `Row.compare`
    kinds: tuple[str, ...]  # of each answer

    def to(self, device: str) -> "Lesson":
        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        moved = {k: v.to(device) for k, v in parts.items() if not isinstance(v, tuple)}
        return replace(self, **moved)


def stack(pictures: Sequence[Picture]) -> Seen:
    truths = [truth_of(picture) for picture in pictures]
    pixels = torch.from_numpy(np.stack([picture.pixels for picture in pictures]))
    every = (torch.cat([getattr(t, f.name) for t in truths]) for f in fields(Truth))
    return Seen(pixels, Truth(*every))


class Packer:
    """Scenes -> lessons."""

    def __init__(self, speller: Speller, image_id: int, end_id: int, pad_id: int) -> None:
        self._speller, self._image, self._end, self._pad = speller, image_id, end_id, pad_id
        self._names = {token: i for i, name in enumerate(SHAPES) for token in speller.names(name)}

    def pack(self, scenes: Sequence[Scene], rng: Random, around: int | None = None) -> Lesson:
        """All cells; or those that matter, with so many `around` each, and a few of the others.

        None are needed around when imagining; an eye may be off by one. What is left out leaves
        its place empty, and the rest is the quicker learnt.
        """
        seen = stack([picture for scene in scenes for picture in scene.pictures])
        kept = [list(range(IMAGE_TOKENS))] * len(seen.pixels)
        if around is not None:
            kept = _kept(seen.truth, rng, around)
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
        where = torch.full((*shape, 2), -1.0)
        named: list[tuple[list[int], Tensor]] = []
        since: list[list[int]] = []
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
            where[i, :n] = torch.tensor(row.where)
            since += [[i, column, change] for column, change in row.since]
            if len(scene.pictures) == 1:
                named += self._named(i, row, scene.pictures[0], len(named))
        cells = [i * IMAGE_TOKENS + cell for i, some in enumerate(kept) for cell in some]
        return Lesson(
            seen,
            torch.tensor(cells, dtype=torch.int64),  # there may be none
            ids,
            labels,
            positions,
            allowed,
            answers,
            where,
            torch.tensor([one for one, _ in named], dtype=torch.int64).view(-1, 5),
            torch.stack([span for _, span in named]) if named else torch.zeros(0, 4),
            torch.tensor(since, dtype=torch.int64).view(-1, 3),
            tuple(kinds),
        )

    def _named(
        self, i: int, row: "Row", picture: Picture, before: int
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Where a question names a shape: how many there are, and of one alone what it is like.

        Row and column of the name, how many, colour or 0, and which of the names (counted over all,
        from `before` on) is of the one shape that the question named last, or -1.
        """
        marks = torch.from_numpy(picture.marks)
        last = (0, -1)  # the question, and the number of the name
        for column, token in enumerate(row.ids):
            if (question := row.segments[column]) and token in self._names:
                found = marks[marks[:, 4] == self._names[token]]
                if len(found) == 1:
                    other = last[1] if last[0] == question else -1
                    yield [i, column, 1, int(found[0, 5]), other], span_of(found)[0]
                    last = (question, before)
                else:
                    yield [i, column, len(found), 0, -1], torch.zeros(4)
                before += 1

    def length(self, scene: Scene) -> int:
        """About how many tokens the row of a scene has, packed sparsely."""
        kept = _kept(stack(scene.pictures).truth, Random(0), 0)
        return len(self._row(scene, kept, Random(0)).ids)

    def _row(self, scene: Scene, kept: Sequence[Sequence[int]], misspelt: Random) -> "Row":
        spell = self._speller
        row = Row()
        system = f"System:{scene.system}{tokens.END}" if scene.system else ""
        row.add(spell.question(f"{tokens.START}{system}User:"), 0)
        for i, cells in enumerate(kept):
            row.add(spell.question(scene.times[i] if scene.times else ""), 0)
            row.add_image(self._image, cells, _above(scene))
            if i:
                row.compare(cells, scene.pictures[i - 1].marks, scene.pictures[i].marks)
        prefix = row.end
        for number, (question, answer) in enumerate(scene.pairs):
            segment = 0 if scene.chat else number + 1
            if not scene.chat:
                row.end = prefix
            if scene.chat and number:
                row.add(spell.question("User:"), segment)
            places = _places(answer, spell, scene)
            named = _label_in(question, scene)
            row.add(spell.question(question, None if named else misspelt), segment)
            if named and places:
                # Found by its label, it is known there first, and to the answer too late to ask.
                after = len(spell.question(question[named.end() :]))
                row.where[-1 - after], places[0] = places[0] or NOWHERE, None
            row.add(spell.question(f"{tokens.END}Assistant:"), segment)
            row.add([*spell.answer(answer), self._end], segment, answer=number)
            row.look(places)
        return row


def _label_in(question: str, scene: Scene) -> re.Match[str] | None:
    """The label of a bar in a question about its value."""
    for label in scene.values:
        case = 0 if len(label) == 1 else re.IGNORECASE
        # In Japanese no blank stands behind it.
        word = rf"(?<![a-zA-Z]){re.escape(label)}(?![a-zA-Z'])"
        if found := re.search(word, question, case):
            return found
    return None


def _above(scene: Scene) -> dict[int, Place]:
    """For the cells that hold the label of a bar, where its value begins."""
    above: dict[int, Place] = {}
    for label, value in scene.values.items():
        for place in scene.written[label]:
            first = scene.written[value][0]
            if place and first:
                above[cell_at(*place)] = first
    return above


def _places(answer: str, spell: Speller, scene: Scene) -> list[Place | None]:
    """Where each token of an answer is read from."""
    places: list[Place | None] = []
    for i, part in enumerate(answer.split(tokens.READ)):
        nowhere = [None] * len(spell.spelt(part) if i % 2 else spell.answer(part))
        places += scene.written.get(part, nowhere) if i % 2 else nowhere
    return places


def _kept(truth: Truth, rng: Random, around: int) -> list[list[int]]:
    """The cells of each picture with print or with the mark of something, and a few more."""
    printed = (by_cell(truth.slots) > 0).any(-1)
    told = (printed | (truth.marks[:, 0] > 0).flatten(1)).view(truth.things.shape)
    near = functional.max_pool2d(told.float(), 2 * around + 1, 1, around).flatten(1).bool()
    share = rng.choice((0.02, 0.02, 0.05, 0.2))
    return [
        # What an eye makes of a picture of nothing known may be anywhere.
        _some(row, rng, 0.5 if around and not any(row) else share)
        for row in near.tolist()
    ]


def _some(matters: Sequence[bool], rng: Random, share: float) -> list[int]:
    return [cell for cell, here in enumerate(matters) if here or rng.random() < share]
