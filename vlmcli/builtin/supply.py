"""An endless supply of what the steps need, drawn here or by worker processes."""

from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from random import Random

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vlmcli.builtin import batches, fonts, pages, samples, tokens
from vlmcli.builtin.batches import Lesson, Seen
from vlmcli.builtin.checkpoints import Progress
from vlmcli.builtin.drawing import labels_alone
from vlmcli.builtin.fonts import Face

STEPS_TO_HARDEST = 4000
"""Steps until the scenes are as hard as they get."""
SHARE_OF_MANY = 0.2
"""Of the steps, those with scenes of several pictures: apart, as they are several times as long."""
COPIES = 0.5
"""Until so many short signs are spelt right, nothing else is asked: all other answers build on
copying, and rows of few tokens teach it several times as fast."""
SHORT = 4
"""So many short signs take the time of a scene."""
NEARBY = 0.75
"""Of the steps in which the eye is asked, those in which most blank cells are left out."""
IMAGINED = 2
"""So many scenes are imagined for each that is seen: they cost little, and keep up the decoder."""


@dataclass(frozen=True, slots=True)
class Step:
    """Pages to look at, scenes to answer about, and once the eye is asked some to be imagined."""

    pages: Seen
    lesson: Lesson
    imagined: Lesson | None = None


class Supply(IterableDataset[Step]):
    """Steps, each as hard as `follow` last said."""

    def __init__(self, seed: str, pages: int, scenes: int) -> None:
        self._seed, self._pages, self._scenes = seed, pages, scenes
        # Shared with the workers: level of the pages, whether to see, level of the scenes, and
        # whether copying is still to be learnt.
        self._state = get_context("spawn").Array("d", 4)

    def follow(self, progress: Progress) -> None:
        hardness = min(1.0, progress.asked / STEPS_TO_HARDEST)
        sees, copying = progress.stage == "answer", progress.copied < COPIES
        self._state[:] = [progress.level, sees, hardness, copying and not sees]

    def __iter__(self) -> Iterator[Step]:
        worker = get_worker_info()
        rng = Random(f"{self._seed} {worker.id if worker else 0}")
        faces, packs = fonts.training_faces(), packer()
        while True:
            level, sees, hardness, copying = self._state[:]
            seen = batches.stack([pages.page(rng, faces, level) for _ in range(self._pages)])
            if copying:
                scenes = [samples.short_sign(rng, faces) for _ in range(SHORT * self._scenes)]
            else:
                many = rng.random() < SHARE_OF_MANY
                count = max(1, self._scenes // 2 if many else self._scenes)
                scenes = [samples.scene(rng, faces, hardness, many=many) for _ in range(count)]
            around: int | None = 0
            if sees:
                around = 1 if rng.random() < NEARBY else None
            yield Step(
                seen,
                packs.pack(scenes, rng, around),
                self._imagined(rng, faces, packs, hardness) if sees else None,
            )

    def _imagined(
        self, rng: Random, faces: list[Face], packs: batches.Packer, hardness: float
    ) -> Lesson:
        count = IMAGINED * self._scenes
        with labels_alone():
            scenes = [samples.scene(rng, faces, hardness, many=False) for _ in range(count)]
        return packs.pack(scenes, rng, around=0)


def packer() -> batches.Packer:
    tokenizer = tokens.build()
    image, end = tokenizer.convert_tokens_to_ids([tokens.IMAGE, tokens.END])
    return batches.Packer(tokens.Speller(tokenizer), image, end, tokenizer.pad_token_id)


def loader(supply: Supply, workers: int) -> Iterator[Step]:
    """The supply, drawn by that many processes; by this one if there are none."""
    if workers == 0:
        return iter(supply)
    return iter(
        DataLoader(
            supply,
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4,
            multiprocessing_context="spawn",
        )
    )
