"""`python -m vlmcli.builtin.parts eye|decoder|join`: the two halves of the first stage, each alone.

On a CPU with two cores this is the shorter way: each half has a core to itself, neither waits for
the other, and `join` makes one checkpoint of both, with which `train --stage answer` goes on. The
eye follows what the decoder's training, in the folder beside it, means by an ideal eye.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import torch

from vlmcli import device as devices
from vlmcli.builtin import batches, checkpoints, fonts, lessons, pages, samples, supply, tokens
from vlmcli.builtin.batches import Packer
from vlmcli.builtin.checkpoints import Progress
from vlmcli.builtin.drawing import labels_alone
from vlmcli.builtin.model import Pupil
from vlmcli.builtin.optimizers import optimizers_of, set_rate
from vlmcli.builtin.samples import Scene
from vlmcli.builtin.train import CLIP, KNOWS_PRINT, signalled

EYE = (
    "model.model.vision_tower.",
    "model.model.multi_modal_projector.",
    "dense.",
    "fine.",
    "place.",
)
DECODER = ("model.model.language_model.", "model.lm_head.", "ideal.", "deep.")
"""Of the weights, by how their names begin."""
MEETS_AFTER = 40
"""Steps in which the connector alone learns what the ideal eye hands on: it may be far off."""
KEPT_UP = 0.08
"""Of the steps of the decoder, those with short signs once it can copy them."""
WIDENING = 0.01
"""By so much a step the pages get harder while they are read."""
BY_LENGTH = 3
"""Rows of a step are sorted by length and padded in so many groups: half of it was padding."""
Counts = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("eye", "decoder", "join"))
    parser.add_argument("--folder", type=Path, default=Path("builtin-training"))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--rows", type=int, default=64, help="short signs a step; pictures / 8")
    options = parser.parse_args()
    if options.part == "join":
        join(options.folder)
    else:
        torch.set_num_threads(1)
        train(options.part, options.folder, options.minutes, options.rate, options.rows)


def train(part: str, folder: Path, minutes: float, rate: float, rows: int) -> Progress:
    """Train one half until the time is up or a signal comes; its checkpoint is PART.pt."""
    pupil, path = Pupil(tokens.build()), folder / f"{part}.pt"
    progress = checkpoints.load(path, pupil)
    own = EYE if part == "eye" else DECODER
    weights = {k: p for k, p in pupil.named_parameters() if k.startswith(own)}
    # Without instructions of its own a CPU is several times slower in bf16.
    half = devices.choose("cpu", "auto").dtype == torch.bfloat16
    dtype = torch.bfloat16 if half else torch.float32
    optimizers = optimizers_of(weights, rate, dtype)
    step = _eye_step if part == "eye" else _decoder_step
    rng, stopped = Random(f"{part} {progress.pictures} {progress.asked}"), signalled()
    started = saved = time.monotonic()
    log: Counts = {}
    count = 0
    while time.monotonic() - started < 60 * minutes and not stopped():
        if part == "eye" and count % 50 == 0:
            _follow(pupil, folder / "decoder.pt")
        for optimizer in optimizers:
            optimizer.zero_grad()
            set_rate(optimizer, rate * min(1.0, (count + 1) / 40))
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            counts = step(pupil, progress, rng, rows, count)
        for key, value in counts.items():
            log[key] = log.get(key, 0.0) + value
        for some in (p for k, p in weights.items() if "projector" in k), weights.values():
            torch.nn.utils.clip_grad_norm_(list(some), CLIP)
        for optimizer in optimizers:
            optimizer.step()
        count += 1
        if count % 50 == 0:
            _say(part, count, progress, log)
            log = {}
        if time.monotonic() - saved > 180:
            saved = time.monotonic()
            checkpoints.save(path, pupil, progress)
    checkpoints.save(path, pupil, progress)
    return progress


def join(folder: Path) -> None:
    """Write checkpoint.pt: the eye of the one training and the decoder of the other."""
    pupil = Pupil(tokens.build())
    eye = checkpoints.load(folder / "eye.pt", pupil)
    _follow(pupil, folder / "decoder.pt")
    decoder = checkpoints.load(folder / "decoder.pt", Pupil(tokens.build()))
    eye.copied, eye.asked = decoder.copied, decoder.asked
    whole = folder / "checkpoint.pt"
    checkpoints.save(whole, pupil, eye)


def _follow(pupil: Pupil, decoder: Path) -> None:
    """Take over a decoder, and what it means by an ideal eye, if there is a checkpoint of it."""
    if not decoder.exists():
        return
    other = Pupil(tokens.build())
    checkpoints.load(decoder, other)
    taken = {k: v for k, v in other.state_dict().items() if k.startswith(DECODER)}
    pupil.load_state_dict(taken, strict=False)


def _eye_step(pupil: Pupil, progress: Progress, rng: Random, rows: int, count: int) -> Counts:
    faces = fonts.training_faces()
    half = max(1, rows // 16)
    pictures = [pages.page(rng, faces, progress.level) for _ in range(half)]
    while len(pictures) < 2 * half:
        scene = samples.scene(rng, faces, progress.level, many=rng.random() < 0.1)
        pictures += scene.pictures[:2]
    seen = batches.stack(pictures[: 2 * half])
    dense, cells, counts = lessons.look(pupil, seen)
    match, more = lessons.match(pupil, cells.detach() if count < MEETS_AFTER else cells, seen)
    (dense + match).backward()  # type: ignore[no-untyped-call]
    progress.pictures += len(seen.pixels)
    progress.char += 0.04 * (counts["char"] / max(1.0, counts["chars"]) - progress.char)
    if progress.char > KNOWS_PRINT:
        progress.level = min(1.0, progress.level + WIDENING)
    return counts | more


def _decoder_step(pupil: Pupil, progress: Progress, rng: Random, rows: int, _: int) -> Counts:
    faces, packer = fonts.training_faces(), supply.packer()
    with labels_alone():
        if progress.copied < supply.COPIES or rng.random() < KEPT_UP:
            scenes = [samples.short_sign(rng, faces) for _ in range(rows)]
        else:
            many = rng.random() < supply.SHARE_OF_MANY
            hardness = min(1.0, progress.asked / supply.STEPS_TO_HARDEST)
            number = max(1, rows // (8 if many else 4))
            scenes = [samples.scene(rng, faces, hardness, many=many) for _ in range(number)]
    if progress.copied >= supply.COPIES:
        progress.asked += 1
    counts: Counts = {}
    for group in _by_length(packer, scenes):
        loss, more = lessons.imagine(pupil, packer.pack(group, rng, around=0))
        (loss * len(group) / len(scenes)).backward()  # type: ignore[no-untyped-call]
        for key, value in more.items():
            counts[key] = counts.get(key, 0.0) + value
    if signs := counts.get("imagined n sign"):
        progress.copied += 0.02 * (counts["imagined ok sign"] / signs - progress.copied)
    return counts


def _by_length(packer: Packer, scenes: Sequence[Scene]) -> Iterator[Sequence[Scene]]:
    order = sorted(scenes, key=packer.length)
    size = -(-len(order) // BY_LENGTH)
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _say(part: str, count: int, progress: Progress, log: Counts) -> None:
    if part == "eye":
        chars = max(1.0, log["chars"])
        parts = [
            f"pictures {progress.pictures} level {progress.level:.2f}",
            f"char {log['char'] / chars:.3f} fine {log['fine'] / chars:.3f}",
            f"found {log['found'] / chars:.3f} false {log['false'] / chars:.3f}",
            f"mark {log['mark'] / max(1, log['marks']):.3f} match {log['match'] / 50:.3f}",
            f"told {log['told'] / 50:.3f}",
        ]
    else:
        before = log["imagined before"] / max(1, log["imagined printed"])
        parts = [f"copied {progress.copied:.2f} asked {progress.asked} before {before:.3f}"]
        for key in sorted(key for key in log if key.startswith("imagined n ")):
            kind = key.removeprefix("imagined n ")
            parts.append(f"{kind} {log[f'imagined ok {kind}'] / log[key]:.2f}")
    sys.stdout.write(f"{part} {count} {' '.join(parts)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
