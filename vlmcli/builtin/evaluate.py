"""`python -m vlmcli.builtin.evaluate`: exact answers on pictures that the training never drew.

Other seeds, other fonts, other layouts and, for signs and titles, other words. The model is loaded
and asked as the program does it.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image as Pixels

from vlmcli import backends, config, messages
from vlmcli.backends import Engine
from vlmcli.builtin import (
    chart_questions,
    charts,
    fonts,
    plots,
    samples,
    sequences,
    shapes,
    signs,
    unknown,
)
from vlmcli.builtin.drawing import Picture
from vlmcli.builtin.fonts import Face
from vlmcli.builtin.tokens import CANNOT_TELL, READ
from vlmcli.messages import Done, Image, Message, Text
from vlmcli.settings import QUANTIZATIONS

LAYOUT = charts.Layout(
    sizes=((380, 560), (380, 520)), print_share=(0.04, 0.07), bar_share=(0.5, 0.75)
)
TARGETS = {"bar charts": 95, "shapes": 95, "words": 90, "sequences": 90, "declined": 97}


@dataclass(frozen=True, slots=True)
class Task:
    """One question about pictures, and the one right answer."""

    pictures: Sequence[Picture]
    question: str
    answer: str
    times: Sequence[str] = ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="builtin", help="a folder; the default is what ships")
    parser.add_argument("--detail", default="auto", help="as of the program; the default is auto")
    parser.add_argument("--count", type=int, default=300, help="questions of each kind")
    parser.add_argument("--seed", type=int, default=20_000_003)
    parser.add_argument("--show", type=int, default=0, help="print so many wrong answers of a kind")
    parser.add_argument("--keep", type=Path, help="write the pictures of wrong answers there")
    parser.add_argument("--quantize", choices=QUANTIZATIONS, help="weights in fewer bits")
    options = parser.parse_args()
    chosen = {name: getattr(options, name) for name in ("model", "detail", "quantize")}
    settings = config.load(chosen)
    engine = backends.load(settings)
    seen = f"{len(fonts.held_out_faces())} held-out faces; --detail {settings.detail}"
    say(f"{engine.label}; {seen}; seed {options.seed}")
    for kind, make in MAKERS.items():
        rng = Random(f"{options.seed} {kind}")
        tasks = [make(rng, fonts.held_out_faces()) for _ in range(options.count)]
        wrong, seconds = [], []
        for task in tasks:
            started = time.perf_counter()
            answer = ask(engine, task, settings.sampling)
            seconds.append(time.perf_counter() - started)
            if answer != task.answer:
                wrong.append((task, answer))
        right = len(tasks) - len(wrong)
        say(
            f"{kind}: {100 * right / len(tasks):.1f} % exact ({right} of {len(tasks)},"
            f" wanted {TARGETS[kind]} %), {statistics.median(seconds):.2f} s an answer"
        )
        for number, (task, answer) in enumerate(wrong[: options.show]):
            say(f"  {task.question!r}: {answer!r}, not {task.answer!r}")
            if options.keep:
                keep(options.keep, f"{kind} {number}", task)


def ask(engine: Engine, task: Task, sampling: messages.Sampling) -> str:
    """The answer of the model to a task."""
    images = [
        Image(f"{i}.png", Pixels.fromarray(picture.pixels), "")
        for i, picture in enumerate(task.pictures)
    ]
    parts: list[Text | Image] = []
    for i, image in enumerate(images):
        parts += [Text(task.times[i]), image] if task.times else [image]
    conversation = [Message("user", (*parts, Text(task.question)))]
    chunks = engine.generate(conversation, sampling)
    return "".join(chunk.text for chunk in chunks if not isinstance(chunk, Done))


def keep(folder: Path, name: str, task: Task) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(task.pictures):
        Pixels.fromarray(picture.pixels).save(folder / f"{name} {i}.png")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _picked(rng: Random, pairs: Sequence[tuple[str, str]]) -> tuple[str, str]:
    question, answer = rng.choice(pairs)
    return question, answer.replace(READ, "")


def chart_task(rng: Random, faces: list[Face]) -> Task:
    shown = charts.chart(rng, 1.0, held_out=True)
    if plots.AVAILABLE and rng.random() < 0.2:
        picture = plots.draw(rng, 0.0, shown, held_out=True)
    else:
        picture = charts.draw(rng, faces, 1.0, shown, LAYOUT)
    return Task([picture], *_picked(rng, chart_questions.pairs(rng, shown, 1)))


def shape_task(rng: Random, _faces: list[Face]) -> Task:
    ground = shapes.ground(rng, 1.0)
    size = rng.choice(((480, 360), (360, 480), (420, 420), (600, 500)))
    ground = shapes.Ground(size, ground.color)
    shown = shapes.some(rng, ground, rng.randrange(1, 6))
    return Task([shapes.draw(rng, 0.5, ground, shown)], *_picked(rng, shapes.pairs(rng, shown, 1)))


def word_task(rng: Random, faces: list[Face]) -> Task:
    rows = signs.lines(rng, 1.0, held_out=True)
    return Task([signs.draw(rng, faces, 1.0, rows)], *_picked(rng, signs.pairs(rng, rows, 3)))


def sequence_task(rng: Random, _faces: list[Face]) -> Task:
    made = rng.choice((sequences.change, sequences.frames))(rng, 1.0, 1)
    return Task(made.pictures, *_picked(rng, made.pairs), times=made.times)


def declined_task(rng: Random, faces: list[Face]) -> Task:
    """Half unknown pictures with any question, half known ones with a question beside the point."""
    if rng.random() < 0.5:
        question = unknown.question(rng, held_out=True)
        if rng.random() < 0.6:
            question = samples.any_question(rng)
        return Task([unknown.draw(rng, faces, held_out=True)], question, CANNOT_TELL)
    known = rng.choice((chart_task, shape_task, word_task))(rng, faces)
    return Task(known.pictures, unknown.question(rng, held_out=True), CANNOT_TELL)


MAKERS: dict[str, Callable[[Random, list[Face]], Task]] = {
    "bar charts": chart_task,
    "shapes": shape_task,
    "words": word_task,
    "sequences": sequence_task,
    "declined": declined_task,
}

if __name__ == "__main__":
    main()
