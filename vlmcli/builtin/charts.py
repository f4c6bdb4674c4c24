"""Bar charts, drawn with Pillow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from vlmcli.builtin import fonts
from vlmcli.builtin.drawing import (
    COLOR_NAMES,
    LEAST_PRINT,
    SIDE,
    Canvas,
    Color,
    Picture,
    color,
    contrast,
    readable_on,
)
from vlmcli.builtin.fonts import Face
from vlmcli.builtin.words import word

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SETS = (
    "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
    "Mon Tue Wed Thu Fri Sat Sun",
    "Q1 Q2 Q3 Q4",
    "2019 2020 2021 2022 2023 2024 2025 2026",
    "red blue green pink gray gold",
    "cat dog cow pig hen fox",
    "one two three four five six",
    "North South East West",
)
_TITLES = (
    "Sales|Revenue|Results|Votes|Points|Score|Units sold|Visitors|Rainfall|Growth|Orders|Stock"
)


CLOSEST = 0.04
"""Of the highest bar: what it, and the lowest, differ by at least from the next."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What a chart says: a label and a printed value for each bar, from left to right."""

    labels: tuple[str, ...]
    values: tuple[str, ...]
    title: str

    @property
    def numbers(self) -> list[float]:
        return [float(value.rstrip("%")) for value in self.values]

    @property
    def highest(self) -> int:
        return self.numbers.index(max(self.numbers))

    @property
    def lowest(self) -> int:
        return self.numbers.index(min(self.numbers))


@dataclass(frozen=True, slots=True)
class Layout:
    """How a chart is laid out, in parts of the picture's height; the evaluation has its own."""

    sizes: tuple[tuple[int, int], tuple[int, int]] = ((300, 720), (260, 640))
    print_share: tuple[float, float] = (0.032, 0.085)
    bar_share: tuple[float, float] = (0.35, 0.9)


def chart(rng: Random, level: float, *, held_out: bool = False) -> Chart:
    count = rng.randrange(2, 7)
    kind = rng.random()
    if kind < 0.5 or (level < 0.3 and not held_out):
        start = rng.randrange(0, 26 - count)
        labels = list(_LETTERS[start : start + count])
        if rng.random() < 0.6:
            labels = rng.sample(_LETTERS, count)
        if rng.random() < 0.3:
            labels = list(_LETTERS[:count])
    elif kind < 0.75:
        labels = []
        while len(labels) < count:
            new = word(rng, held_out=held_out)[:6]
            labels += [new] if new.lower() not in [label.lower() for label in labels] else []
    else:
        names = rng.choice([names.split() for names in _SETS if len(names.split()) >= count])
        start = rng.randrange(0, len(names) - count + 1)
        labels = names[start : start + count]
    shown = Chart(tuple(labels), _values(rng, count), _title(rng, held_out=held_out))
    while not _can_be_told(shown.numbers):
        shown = replace(shown, values=_values(rng, count))
    return shown


def _can_be_told(numbers: Sequence[float]) -> bool:
    """Whether the highest and the lowest bar stand out by a few pixels."""
    order = sorted(numbers)
    least = CLOSEST * order[-1]
    return order[-1] - order[-2] >= least and order[1] - order[0] >= least


def _values(rng: Random, count: int) -> tuple[str, ...]:
    kind = rng.random()
    if kind < 0.6:
        numbers = [str(n) for n in rng.sample(range(1, 100), count)]
    elif kind < 0.75:
        numbers = [str(n) for n in rng.sample(range(10, 1000), count)]
    elif kind < 0.85:
        numbers = [f"{n / 10:.1f}" for n in rng.sample(range(1, 200), count)]
    elif kind < 0.93:
        numbers = [f"{n}%" for n in rng.sample(range(1, 100), count)]
    else:
        numbers = [str(n) for n in rng.sample(range(1, 12), count)]
    return tuple(numbers)


def _title(rng: Random, *, held_out: bool) -> str:
    if rng.random() < 0.5:
        return ""
    if rng.random() < 0.5 and not held_out:
        return rng.choice(_TITLES.split("|"))
    return " ".join(word(rng, held_out=held_out) for _ in range(rng.choice((1, 1, 2))))


PLAIN = Layout()


def draw(
    rng: Random, faces: list[Face], level: float, shown: Chart, layout: Layout = PLAIN
) -> Picture:
    """Bars upright, each with its value above and its label below."""
    size, face, print_px = _room(rng, faces, level, shown, layout)
    ground = (255, 255, 255) if rng.random() < 0.6 else _pale_or_dark(rng)
    ink = readable_on(rng, ground) if rng.random() < 0.3 else _black_or_white(ground)
    canvas = Canvas.blank(size, ground)
    top = _head(canvas, rng, face, shown.title, print_px, ink)
    _bars(canvas, rng, face, shown, layout, (print_px, top), ink, ground)
    return canvas.picture(rng, wear=rng.random() < level)


def _room(
    rng: Random, faces: list[Face], level: float, shown: Chart, layout: Layout
) -> tuple[tuple[int, int], Face, int]:
    """A size of the picture, a face and a size of print in which everything fits and is legible.

    For some labels there is none in any face at hand: then what comes closest.
    """
    closest = 0.0
    (narrow, wide), (low, high) = layout.sizes
    for _ in range(100):
        size = (rng.randint(narrow, wide), rng.randint(low, high))
        if level < rng.random() * 0.5:
            size = (SIDE, SIDE)
        face = rng.choice(faces)
        share = rng.uniform(*layout.print_share) if level > rng.random() * 0.5 else 0.08
        least = LEAST_PRINT * max(size) / SIDE
        print_px = max(round(share * min(size)), round(least))
        step = size[0] * (0.92 - 0.15) / len(shown.labels)
        texts = (*shown.labels, *shown.values)
        widest = max(fonts.font(face, print_px).getlength(text) for text in texts)
        print_px = min(print_px, int(print_px * step * 0.95 / widest))
        if print_px / least > closest:
            closest, room = print_px / least, (size, face, print_px)
        if closest >= 0.9:
            break
    return room


def _black_or_white(ground: Color) -> Color:
    return (0, 0, 0) if contrast(ground, (0, 0, 0)) > 0.5 else (255, 255, 255)


def _pale_or_dark(rng: Random) -> Color:
    base = 0 if rng.random() < 0.25 else 200
    return (base + rng.randrange(55), base + rng.randrange(55), base + rng.randrange(55))


def _head(canvas: Canvas, rng: Random, face: Face, title: str, print_px: int, ink: Color) -> float:
    """Write the title; returns where the plot may start."""
    width = canvas.image.size[0]
    if not title:
        return print_px * rng.uniform(0.3, 1.2)
    large = round(print_px * rng.uniform(1.0, 1.5))
    large = min(large, int(large * width * 0.9 / fonts.font(face, large).getlength(title)))
    at = width / 2 if rng.random() < 0.8 else width * 0.06
    if at == width / 2:
        canvas.centered((at, large * 0.9), title, face, max(large, 8), ink)
    else:
        canvas.text((at, large * 0.9), title, face, max(large, 8), ink)
    return large * 1.9


def _bars(canvas: Canvas, rng: Random, face: Face, shown: Chart, layout: Layout,
          placed: tuple[int, float], ink: Color, ground: Color) -> None:  # fmt: skip
    print_px, top = placed
    width, height = canvas.image.size
    left = width * rng.uniform(0.03, 0.1)
    if ticked := rng.random() < 0.3:
        left += 2.2 * print_px
    right = width * rng.uniform(0.92, 0.98)
    base = height - print_px * rng.uniform(1.5, 2.2)
    top += print_px * 1.3
    step = (right - left) / len(shown.labels)
    share = rng.uniform(*layout.bar_share)
    most = max(shown.numbers) * rng.uniform(1.0, 1.15)
    _frame(canvas, rng, (left, top, right, base), ink, ground)
    if ticked:
        _ticks(canvas, rng, face, (left, top, base, most), print_px, ink)
    names = [name for name in COLOR_NAMES if name not in ("white", "black")]
    one = rng.choice(names) if rng.random() < 0.5 else ""
    shades = {name: color(rng, name) for name in names}
    if rng.random() < 0.5:  # colours of no name
        names, one = [""], ""
        shade = muted(rng, ground)
        same = rng.random() < 0.4
    for i, (label, value, number) in enumerate(
        zip(shown.labels, shown.values, shown.numbers, strict=True)
    ):
        middle = left + step * (i + 0.5)
        name = one or rng.choice(names)
        reach = max(1.0, (base - top) * number / most)
        half = step * share / 2
        box = (middle - half, base - reach, middle + half, base)
        fill = shades[name] if name else shade if same else muted(rng, ground)
        canvas.thing("bar", name, box, fill)
        gap = print_px * rng.uniform(0.58, 0.8)
        canvas.centered((middle, base - reach - gap), value, face, print_px, ink)
        canvas.centered((middle, base + print_px * 0.85), label, face, print_px, ink)


def muted(rng: Random, ground: Color) -> Color:
    """Any colour that a bar may have, away from the ground's."""
    while True:
        fill = (rng.randrange(30, 256), rng.randrange(30, 256), rng.randrange(30, 256))
        if max(abs(a - b) for a, b in zip(fill, ground, strict=True)) > 80:
            return fill


def _ticks(canvas: Canvas, rng: Random, face: Face, span: tuple[float, float, float, float],
           print_px: int, ink: Color) -> None:  # fmt: skip
    """Round numbers up the left side."""
    left, top, base, most = span
    small = max(7, round(print_px * rng.uniform(0.65, 0.95)))
    round_steps = [n * 10**e for e in range(-1, 3) for n in (1, 2, 5)]
    step = next((n for n in round_steps if most / n < rng.choice((4, 5, 7))), 1000)
    tick = 0.0
    while tick <= most:
        y = base - (base - top) * tick / most
        words = f"{tick:g}" if step >= 1 else f"{tick:.1f}"
        wide = fonts.font(face, small).getlength(words)
        canvas.text((left - wide - small * 0.5, y), words, face, small, ink)
        canvas.draw.line((left - small * 0.3, y, left, y), fill=ink)
        tick += step


def _frame(canvas: Canvas, rng: Random, box: tuple[float, float, float, float], ink: Color,
           ground: Color) -> None:  # fmt: skip
    """Gridlines and axes, or none."""
    left, top, right, base = box
    faint = tuple((3 * g + i) // 4 for g, i in zip(ground, ink, strict=True))
    if rng.random() < 0.35:
        lines = rng.randrange(3, 7)
        for i in range(lines):
            y = base - (base - top) * i / lines
            canvas.draw.line((left, y, right, y), fill=faint, width=1)
    if rng.random() < 0.7:
        thick = rng.choice((1, 1, 2))
        canvas.draw.line((left, base, right, base), fill=ink, width=thick)
        if rng.random() < 0.5:
            canvas.draw.line((left, top, left, base), fill=ink, width=thick)
            if rng.random() < 0.3:
                canvas.draw.rectangle(box, outline=ink)
