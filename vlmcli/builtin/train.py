"""`python -m vlmcli.builtin.train`: draws, trains, keeps checkpoints, exports.

First the eye learns on pages of print, from easy to hard, to name what is there, while the decoder
learns to answer questions from the labels; then the decoder answers from what the eye sees. It goes
on from its checkpoint until it is stopped; `--finish MINUTES` then brings the learning rate down to
nothing and writes the model.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from vlmcli import device as devices
from vlmcli.builtin import checkpoints, export, lessons, tokens
from vlmcli.builtin.checkpoints import Progress
from vlmcli.builtin.model import Pupil
from vlmcli.builtin.optimizers import optimizers_of, set_rate
from vlmcli.builtin.supply import Step, Supply, loader

CLIP = 1.0
KNOWS_PRINT, WIDENING = 0.6, 0.004
"""Above this share of characters named right, the pages get harder, by so much a step."""
DENSE_WEIGHT = 1.0
"""Of the labels of the renderer, beside the answers."""
MATCH_WEIGHT = 2.0
"""Of what an eye without mistakes would hand to the decoder."""
TOGETHER = 0.4
"""Of the last stretch, after which the eye learns from the answers as well: before that they would
lead it away from what the labels say, for little."""
READS = 0.9
"""The share of characters named right in the hardest pages from which on the eye is asked."""


def main() -> None:
    options = _parser().parse_args()
    if options.workers is None:  # a GPU waits for its pictures; a core had better draw its own
        options.workers = (os.cpu_count() or 1) if torch.cuda.is_available() else 0
    if torch.cuda.is_available() or options.processes == 1:
        _train(0, 1, options)
        return
    # A process a core, each with one thread: threads that share the work of a layer wait for one
    # another at every step, and with anything else running on the machine they mostly wait.
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", str(options.port))
    start: Callable[..., object] = spawn
    start(_train, args=(options.processes, options), nprocs=options.processes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("builtin-training"))
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="on a CPU")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--finish", type=float, metavar="MINUTES", help="end the training in these")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--pages", type=int, default=2, help="pages a step and process")
    parser.add_argument("--scenes", type=int, default=6, help="scenes a step and process")
    parser.add_argument("--looks", type=int, default=2, help="of their pictures, in stage look")
    parser.add_argument("--stage", choices=("look", "answer"), help="go to this stage now")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    parser.add_argument("--port", type=int, default=29417)
    parser.add_argument("--workers", type=int, default=None, help="processes that draw")
    parser.add_argument("--seed", type=int, default=1)
    return parser


def _train(rank: int, ranks: int, options: argparse.Namespace) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1 if ranks > 1 else os.cpu_count() or 1)
    if ranks > 1:
        dist.init_process_group("gloo", rank=rank, world_size=ranks)
    torch.manual_seed(options.seed)
    # Without instructions of its own a CPU is several times slower in bf16.
    half = devices.choose(device, "auto").dtype == torch.bfloat16
    dtype = torch.bfloat16 if half else torch.float32
    pupil = Pupil(tokens.build()).to(device)
    optimizers = optimizers_of(dict(pupil.named_parameters()), options.rate, dtype)
    progress = checkpoints.load(options.folder / "checkpoint.pt", pupil)
    if options.stage:
        progress.stage = options.stage
    course = _Course(pupil, optimizers, progress, options, device, rank, ranks, progress.step, half)
    course.run()
    if ranks > 1:
        dist.destroy_process_group()


@dataclass(slots=True)
class _Course:
    """One process of the training."""

    pupil: Pupil
    optimizers: list[torch.optim.Optimizer]
    progress: Progress
    options: argparse.Namespace
    device: str
    rank: int
    ranks: int
    first_step: int
    half: bool

    def run(self) -> None:
        """Steps until the time is up or a signal comes; then the last checkpoint."""
        stop = signalled()
        log, started, saved = _Log(), time.monotonic(), time.monotonic()
        options = self.options
        seed = f"{options.seed} {self.rank} {self.progress.step}"
        supply = Supply(seed, options.pages, options.scenes)
        supply.follow(self.progress)
        steps = loader(supply, options.workers)
        before, begun = self.progress.seconds, self.progress.finished % 1
        while True:
            spent = time.monotonic() - started
            self._go_toward_the_end(begun, spent)
            ended = spent > 60 * options.minutes or self.progress.finished >= 1
            if self._any(ended or stop()):
                break
            counts = self._step(next(steps))
            supply.follow(self.progress)
            self.progress.seconds = before + time.monotonic() - started
            log.add(counts)
            if self.rank == 0 and self.progress.step % 50 == 0:
                log.write(self.progress)
            if time.monotonic() - saved > 60 * self.options.save_minutes:
                saved = time.monotonic()
                self._save()
        self._save()
        if self.rank == 0 and self.progress.finished >= 1:
            export.write(self.pupil, self.options.folder / "model")

    def _go_toward_the_end(self, begun: float, spent_s: float) -> None:
        """How much of the last stretch is done, which goes on where it was left."""
        finish = self.options.finish
        self.progress.finished = min(1.0, begun + spent_s / (60 * finish)) if finish else 0.0

    def _any(self, flag: bool) -> bool:
        """Whether the flag is up in any process: all must leave at the same step."""
        if self.ranks == 1:
            return flag
        shared = torch.tensor(float(flag))
        dist.all_reduce(shared)
        return bool(shared > 0)

    def _step(self, drawn: Step) -> lessons.Counts:
        progress = self.progress
        self._set_rate()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            loss, counts = self._looked_and_told(drawn)
        progress.asked += 1
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._share_gradients()
        # Apart, or the steps of the connector would be as small as the rest is wrong.
        for part in (self.pupil.model.model.multi_modal_projector, self.pupil):
            torch.nn.utils.clip_grad_norm_(part.parameters(), CLIP)
        for optimizer in self.optimizers:
            optimizer.step()
        counts["all"], counts["all steps"] = float(loss.detach()), 1.0
        self._widen(counts)
        progress.step += 1
        return counts

    def _looked_and_told(self, drawn: Step) -> tuple[Tensor, lessons.Counts]:
        progress, pupil = self.progress, self.pupil
        pages, lesson = drawn.pages.to(self.device), drawn.lesson.to(self.device)
        sees = progress.stage == "answer"
        shown = lesson.seen if sees else lesson.seen.first(self.options.looks)
        seen = pages + shown
        progress.pictures += len(seen.pixels) * self.ranks
        dense, cells, counts = lessons.look(pupil, seen)
        match, more = lessons.match(pupil, cells, seen)
        counts |= more
        if not sees:
            told, more = lessons.imagine(pupil, lesson)
            if signs := more.get("imagined n sign"):
                right = more["imagined ok sign"] / signs
                progress.copied += 0.02 * (right - progress.copied)
            return dense + MATCH_WEIGHT * match + told, counts | more
        apart = progress.finished < TOGETHER
        told, more = lessons.answer(pupil, lesson, cells[len(pages.pixels) :], apart=apart)
        counts |= more
        if drawn.imagined is not None:
            imagined, more = lessons.imagine(pupil, drawn.imagined.to(self.device))
            told, counts = told + imagined, counts | more
        return DENSE_WEIGHT * (dense + MATCH_WEIGHT * match) + told, counts

    def _set_rate(self) -> None:
        since = self.progress.step - self.first_step  # the moments of the optimizer may be new
        rate = self.options.rate * min(1.0, (since + 1) / 100)
        if self.options.finish:
            rate *= max(0.01, 1 - self.progress.finished)
        for optimizer in self.optimizers:
            set_rate(optimizer, rate)

    def _share_gradients(self) -> None:
        if self.ranks == 1:
            return
        # What one process had nothing to learn about, another may have.
        for weight in self.pupil.parameters():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        gradients = [p.grad for p in self.pupil.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.ranks
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _widen(self, counts: lessons.Counts) -> None:
        """Make the pages harder as soon as these are read; then ask the eye."""
        progress = self.progress
        shared = torch.tensor([counts["char"], counts["chars"]])
        if self.ranks > 1:
            dist.all_reduce(shared)
        progress.char += 0.03 * (float(shared[0] / shared[1].clamp(min=1)) - progress.char)
        if progress.char > KNOWS_PRINT:
            progress.level = min(1.0, progress.level + WIDENING)
        if progress.stage == "look" and progress.level >= 1 and progress.char > READS:
            progress.stage = "answer"

    def _save(self) -> None:
        if self.rank == 0:
            checkpoints.save(self.options.folder / "checkpoint.pt", self.pupil, self.progress)


class _Log:
    """Sums since the last line."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._since, self._pictures = time.monotonic(), -1

    def add(self, counts: lessons.Counts) -> None:
        for key, value in counts.items():
            self._sums[key] = self._sums.get(key, 0.0) + value

    def write(self, progress: Progress) -> None:
        sums, seconds = self._sums, time.monotonic() - self._since
        speed = (progress.pictures - self._pictures) / seconds if self._pictures >= 0 else 0.0
        steps, chars = sums["all steps"], max(1.0, sums["chars"])
        things = max(1.0, sums["things"])
        parts = [
            f"{progress.seconds / 60:.1f} min step {progress.step} {progress.stage}",
            f"level {progress.level:.2f} pictures {progress.pictures} ({speed:.1f}/s)",
            f"loss {sums['all'] / steps:.3f} char {sums['char'] / chars:.3f}",
            f"found {sums['found'] / chars:.3f} false {sums['false'] / chars:.3f}",
            f"thing {sums['thing'] / things:.2f} color {sums['color'] / things:.2f}",
            f"match {sums['match'] / steps:.3f} told {sums['told'] / steps:.3f}",
        ]
        for told in ("", "imagined "):
            if asked := sums.get(f"{told}steps"):
                parts.append(f"{told}answers: loss {sums[f'{told}loss'] / asked:.3f} exact")
                counted = f"{told}n "
                kinds = sorted(key.removeprefix(counted) for key in sums if key.startswith(counted))
                for kind in kinds:
                    right = sums[f"{told}ok {kind}"] / sums[f"{counted}{kind}"]
                    parts.append(f"{kind} {right:.2f}")
        sys.stdout.write(" ".join(parts) + "\n")
        sys.stdout.flush()
        self._sums, self._since, self._pictures = {}, time.monotonic(), progress.pictures


def signalled() -> Callable[[], bool]:
    """Whether SIGTERM or SIGINT has come: the step in hand is finished first."""
    came: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _frame: came.append(got))
    return lambda: bool(came)


if __name__ == "__main__":
    main()
