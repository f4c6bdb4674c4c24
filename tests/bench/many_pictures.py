"""Captions a second: small pictures one at a time and in batches; large ones decoded ahead or not.

python tests/bench/many_pictures.py [-m MODEL] [-n TOKENS] [--runs RUNS] [PICTURES]

MODEL is a folder or a name as for `vlm caption`; without one it is the model that ships inside.
Every answer has as many tokens as -n says, or ends earlier. All ways take turns within each run,
so that the ratios hold on a machine that does other work as well; shown are medians of RUNS, and
the seconds of the processor beside those of the clock.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

from PIL import Image, ImageDraw

from vlmcli import answers, config
from vlmcli.answers import Asked
from vlmcli.backends import Engine
from vlmcli.commands.captioning import Asking
from vlmcli.inputs import pictures
from vlmcli.inputs.ahead import Files, Pool
from vlmcli.inputs.arguments import Named
from vlmcli.inputs.listing import found
from vlmcli.settings import Settings
from vlmcli.wording import caption

SIZES = (1, 4, 8, 16)
LARGE = (4000, 3000)
LARGE_COUNT = 12
Took = tuple[float, float]
"""Seconds of the clock, and of the processor."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", default="builtin")
    parser.add_argument("-n", "--max-tokens", default="32")
    parser.add_argument("--detail", default="auto")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("pictures", nargs="?", type=int, default=16)
    given = parser.parse_args()
    flags = {"model": given.model, "max_tokens": given.max_tokens, "detail": given.detail}
    settings = config.load(flags)
    engine = answers.load(settings)
    with tempfile.TemporaryDirectory() as root:
        small, large = Path(root) / "small", Path(root) / "large"
        draw(small, given.pictures, (448, 448), "png")
        draw(large, LARGE_COUNT, LARGE, "jpg")
        asked = prepared(engine, settings, small)
        ways: dict[str, Callable[[], object]] = {
            f"batches of {size:2}": lambda size=size: in_batches(engine, settings, asked, size)  # type: ignore[misc]
            for size in SIZES
        }
        ways["large, decoded in turn"] = lambda: decoded(settings, large, ahead=False)
        ways["large, decoded ahead"] = lambda: decoded(settings, large, ahead=True)
        for work in ways.values():  # warm-up, and the proof that the rows are right
            work()
        runs = [{way: timed(work) for way, work in ways.items()} for _ in range(given.runs)]
    print(f"{engine.label}: medians of {given.runs}")
    for way in ways:
        count = LARGE_COUNT if way.startswith("large") else len(asked)
        base = "large, decoded in turn" if way.startswith("large") else "batches of  1"
        clock, processor = (statistics.median(run[way][i] for run in runs) for i in (0, 1))
        ratios = [statistics.median(run[base][i] / run[way][i] for run in runs) for i in (0, 1)]
        print(
            f"{way:24} {count / clock:6.2f}/s, {ratios[0]:.2f} times; processor"
            f" {processor / count * 1000:6.0f} ms each, {ratios[1]:.2f} times"
        )


def timed(work: Callable[[], object]) -> Took:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def draw(folder: Path, count: int, size: tuple[int, int], suffix: str) -> None:
    folder.mkdir()
    for number in range(count):
        rng = Random(number)
        picture = Image.frombytes("RGB", (400, 300), rng.randbytes(400 * 300 * 3))
        picture = picture.resize(size) if suffix == "jpg" else Image.new("RGB", size, "white")
        x, y, radius = rng.randrange(80, 360), rng.randrange(80, 360), rng.randrange(30, 70)
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), "red")
        picture.save(folder / f"{number:03}.{suffix}")


def prepared(engine: Engine, settings: Settings, folder: Path) -> list[Asked]:
    asking = Asking(settings, caption("short"))
    asking.engine = engine
    with Pool() as pool, Files(found(Named([str(folder)])), settings, pool) as files:
        return [
            asking.ready(picture)
            for file in files
            if isinstance(file.pictures, list)
            for picture in file.pictures
        ]


def in_batches(engine: Engine, settings: Settings, asked: Sequence[Asked], size: int) -> None:
    for at in range(0, len(asked), size):
        some = asked[at : at + size]
        assert len([*answers.collect_many(engine, some, settings, together=2)]) == len(some)


def decoded(settings: Settings, folder: Path, *, ahead: bool) -> None:
    """What a model that takes 50 ms a picture, elsewhere, would wait for."""
    if not ahead:
        for image in pictures.read_all([str(folder)], settings, recursive=False):
            assert image.width
            busy()
        return
    with Pool() as pool, Files(found(Named([str(folder)])), settings, pool) as files:
        futures = [
            pool.submit(picture.decode)
            for file in files
            if isinstance(file.pictures, list)
            for picture in file.pictures
        ]
        for future in futures:
            assert future.result().width
            busy()


def busy() -> None:
    """A model on a GPU, which leaves the processor alone."""
    time.sleep(0.05)


if __name__ == "__main__":
    main()
