"""An endless supply of what the steps need, drawn here or by worker processes."""

from collections.abc import Iterator
from multiprocessing import get_context
from random import Random

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vlmcli.builtin import batches, fonts, samples, tokens
from vlmcli.builtin.batches import Lesson, Seen
from vlmcli.builtin.checkpoints import Progress

SCENES_TO_HARDEST = 6000
"""Steps of answering until the scenes are as hard as they get."""
Step = tuple[Seen, Lesson | None]


class Supply(IterableDataset[Step]):
    """Steps, each as hard as `follow` last said."""

    def __init__(self, seed: str, tiles: int, scenes: int) -> None:
        self._seed, self._tiles, self._scenes = seed, tiles, scenes
        # Shared with the workers: level of the pages, whether to ask, level of the scenes.
        self._state = get_context("spawn").Array("d", 3)

    def follow(self, progress: Progress) -> None:
        hardness = min(1.0, progress.answer_step / SCENES_TO_HARDEST)
        self._state[:] = [progress.level, progress.stage == "answer", hardness]

    def __iter__(self) -> Iterator[Step]:
        worker = get_worker_info()
        rng = Random(f"{self._seed} {worker.id if worker else 0}")
        faces, packer = fonts.training_faces(), _packer()
        while True:
            level, asks, hardness = self._state[:]
            # The quarters of these pages are used up before the level is looked at again.
            for seen in batches.tiles(rng, faces, level, self._tiles):
                yield seen, self._lesson(rng, faces, packer, hardness) if asks else None
                _, asks, hardness = self._state[:]

    def _lesson(
        self, rng: Random, faces: list[fonts.Face], packer: batches.Packer, hardness: float
    ) -> Lesson:
        return packer.pack([samples.scene(rng, faces, hardness) for _ in range(self._scenes)])


def _packer() -> batches.Packer:
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
