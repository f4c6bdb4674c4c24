"""`python -m vlmcli.builtin.parts eye|decoder|join`: the two halves of the first stage, each alone.

On a CPU with two cores this is the shorter way: each half has a core to itself, neither waits for
the other, and `join` makes one checkpoint of both, with which `train --stage answer` goes on. The
eye follows what the decoder's training, in the folder beside it, means by an ideal eye.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from vlmcli.builtin import batches, checkpoints, fonts, lessons, pages, samples, supply, tokens
from vlmcli.builtin.batches import Packer
from vlmcli.builtin.checkpoints import Progress
from vlmcli.builtin.model import Pupil
from vlmcli.builtin.samples import Scene
from vlmcli.builtin.train import CLIP, signalled

EYE = ("model.model.vision_tower.", "model.model.multi_modal_projector.", "dense.", "place.")
DECODER = ("model.model.language_model.", "model.lm_head.", "ideal.")
"""Of the weights, by how their names begin."""
MEETS_AFTER = 150
"""Steps in which the connector alone learns what the ideal eye hands on: it may be far off."""
KEPT_UP = 0.15
"""Of the steps of the decoder, those with short signs once it can copy them."""
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
    progress = checkpoints.load(path if path.exists() else checkpoints.KEPT, pupil)
    own = EYE if part == "eye" else DECODER
    weights = {k: p for k, p in pupil.named_parameters() if k.startswith(own)}
    optimizers = _optimizers(weights, rate)
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
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, (count + 1) / 40)
        for key, value in step(pupil, progress, rng, rows, count).items():
            log[key] = log.get(key, 0.0) + value
        for half in (p for k, p in weights.items() if "projector" in k), weights.values():
            torch.nn.utils.clip_grad_norm_(list(half), CLIP)
        for optimizer in optimizers:
            optimizer.step()
        count += 1
        if count % 50 == 0:
            _say(part, count, progress, log)
            log = {}
        if time.monotonic() - saved > 180:
            saved = time.monotonic()
            checkpoints.save(path, pupil, torch.optim.AdamW(pupil.parameters()), progress)
    checkpoints.save(path, pupil, torch.optim.AdamW(pupil.parameters()), progress)
    return progress


def join(folder: Path) -> None:
    """Write checkpoint.pt: the eye of the one training and the decoder of the other."""
    pupil = Pupil(tokens.build())
    eye = checkpoints.load(folder / "eye.pt", pupil)
    _follow(pupil, folder / "decoder.pt")
    decoder = checkpoints.load(folder / "decoder.pt", Pupil(tokens.build()))
    eye.copied, eye.asked = decoder.copied, decoder.asked
    whole = folder / "checkpoint.pt"
    checkpoints.save(whole, pupil, torch.optim.AdamW(pupil.parameters()), eye)


def _follow(pupil: Pupil, decoder: Path) -> None:
    """Take over a decoder, and what it means by an ideal eye, if there is a checkpoint of it."""
    if not decoder.exists():
        return
    other = Pupil(tokens.build())
    checkpoints.load(decoder, other)
    taken = {k: v for k, v in other.state_dict().items() if k.startswith(DECODER)}
    pupil.load_state_dict(taken, strict=False)


def _optimizers(weights: Mapping[str, Tensor], rate: float) -> list[torch.optim.Optimizer]:
    """Muon for what multiplies, in which each step counts for more; AdamW for the rest."""

    def multiplies(name: str, weight: Tensor) -> bool:
        tables = ("embed_tokens", "lm_head", "ideal.", "dense.", "place.", "projector")
        return weight.ndim == 2 and not any(table in name for table in tables)

    matrices = [p for k, p in weights.items() if multiplies(k, p)]
    others = [p for k, p in weights.items() if not multiplies(k, p)]
    return [
        Muon(matrices, lr=rate),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, as in torch.optim.Muon, which computes in bf16: CPUs without
    instructions for that emulate it (15 s a step beside 3).

    https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, weights: Sequence[Tensor], lr: float) -> None:
        super().__init__(list(weights), {"lr": lr, "momentum": 0.95, "weight_decay": 0.02})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                change = orthogonal(weight.grad.lerp(momentum, group["momentum"]))
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                # As large as a step of AdamW's would be.
                weight.add_(change, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly the orthogonal matrix nearest to this one: five steps of Newton and Schulz."""
    tall = matrix.size(0) > matrix.size(1)
    x: Tensor = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


def _eye_step(pupil: Pupil, progress: Progress, rng: Random, rows: int, count: int) -> Counts:
    faces = fonts.training_faces()
    half = max(1, rows // 16)
    pictures = [pages.page(rng, faces, progress.level) for _ in range(half)]
    while len(pictures) < 2 * half:
        scene = samples.scene(rng, faces, 1.0, many=rng.random() < 0.1)
        pictures += scene.pictures[:2]
    seen = batches.stack(pictures[: 2 * half])
    dense, cells, counts = lessons.look(pupil, seen)
    match, more = lessons.match(pupil, cells.detach() if count < MEETS_AFTER else cells, seen)
    (dense + match).backward()  # type: ignore[no-untyped-call]
    progress.pictures += len(seen.pixels)
    progress.char += 0.02 * (counts["char"] / max(1.0, counts["chars"]) - progress.char)
    return counts | more


def _decoder_step(pupil: Pupil, progress: Progress, rng: Random, rows: int, _: int) -> Counts:
    faces, packer = fonts.training_faces(), supply.packer()
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
        loss, more = lessons.imagine(pupil, packer.pack(group, rng, sparse=True))
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
        parts = [f"char {log['char'] / chars:.3f} match {log['match'] / 50:.3f}"]
    else:
        parts = [f"copied {progress.copied:.2f}"]
        for key in sorted(key for key in log if key.startswith("imagined n ")):
            kind = key.removeprefix("imagined n ")
            parts.append(f"{kind} {log[f'imagined ok {kind}'] / log[key]:.2f}")
    sys.stdout.write(f"{part} {count} {' '.join(parts)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
