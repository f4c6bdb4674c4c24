"""What it costs to read yes and no from a model's probabilities, beside answers in words.

python tests/bench/grep_or_ask.py [-m MODEL] [PICTURES]

MODEL is a folder or a name as for `vlm ask`; without one it is the model that ships inside. All
are timed in turn, so that the ratios hold on a machine that does other work as well. No picture is
shown twice but to the second statement, for which it is remembered.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import count
from random import Random

from PIL import Image, ImageDraw

from vlmcli import answers, config, messages, wording
from vlmcli.messages import Message

WARM_UP = 2  # pictures
WAYS = ("a caption", "yes or no in words", "a statement", "a second one")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", default="builtin")
    parser.add_argument("pictures", nargs="?", type=int, default=20)
    arguments = parser.parse_args()
    settings = config.load({"model": arguments.model})
    engine = answers.load(settings)
    affirm = engine.affirm
    assert affirm is not None

    def ask(conversation: list[Message]) -> object:
        return answers.collect(engine, conversation, settings)

    rows: list[list[float]] = []
    seeds = count()
    for _ in range(WARM_UP + arguments.pictures):
        caption, worded, stated = (circle(Random(next(seeds))) for _ in range(3))
        rows.append(
            [
                seconds(ask, [messages.user(wording.caption("short"), [caption])]),
                seconds(ask, [messages.user(wording.shows("a circle"), [worded])]),
                seconds(affirm, [messages.user(wording.shows("a circle"), [stated])]),
                seconds(affirm, [messages.user(wording.shows("a square"), [stated])]),
            ]
        )
    print(f"{engine.label}: medians of {arguments.pictures}")
    medians = [statistics.median(column) for column in zip(*rows[WARM_UP:], strict=True)]
    for way, median in zip(WAYS, medians, strict=True):
        print(f"{way:18} {median * 1000:7.1f} ms, {median / medians[1]:.2f} of yes or no in words")


def seconds(call: Callable[[list[Message]], object], conversation: list[Message]) -> float:
    start_s = time.perf_counter()
    call(conversation)
    return time.perf_counter() - start_s


def circle(rng: Random) -> messages.Image:
    picture = Image.new("RGB", (448, 448), "white")
    x, y, radius = rng.randrange(80, 360), rng.randrange(80, 360), rng.randrange(30, 70)
    box = (x - radius, y - radius, x + radius, y + radius)
    ImageDraw.Draw(picture).ellipse(box, "red")
    return messages.Image("circle", picture, "")


if __name__ == "__main__":
    main()
