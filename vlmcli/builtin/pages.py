"""Pages full of print in every size and face: the most characters to learn for the time."""

from random import Random

from vlmcli.builtin.drawing import (
    CHARS,
    COLOR_NAMES,
    LEAST_PRINT,
    SHAPES,
    SIDE,
    Canvas,
    Color,
    Picture,
    color,
    readable_on,
    readable_pair,
)
from vlmcli.builtin.fonts import Face

_MARKS = CHARS[62:]
_DIGITS = "0123456789"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


HARDEST = 0.6
"""The share of each difficulty in the hardest pages; with all of them at once little is learnt."""


def page(rng: Random, faces: list[Face], level: float) -> Picture:
    """Lines of random words and numbers, and here and there a shape.

    `level` from 0 (one plain face, black on white, upright) to 1 (every face and colour, print as
    small as that of charts, turned, blurred). Nothing is learnt from a start at 1.
    """

    def hard() -> bool:
        return rng.random() < HARDEST * level

    size = (SIDE, SIDE)
    if hard() and rng.random() < 0.6:
        size = (rng.randrange(288, 640), rng.randrange(288, 640))
    ground, ink = readable_pair(rng) if hard() else ((255, 255, 255), (0, 0, 0))
    canvas = Canvas.blank(size, ground)
    y = rng.uniform(-5, 20)
    while y < size[1]:
        face = rng.choice(faces) if hard() else faces[rng.randrange(min(3, len(faces)))]
        y += _line(canvas, rng, face, y, ink, hard=hard())
        if level > 0.2 and rng.random() < 0.3:
            ink = readable_on(rng, ground)
    if rng.random() < 0.3:
        _scatter(canvas, rng)
    if hard() and rng.random() < 0.5:
        canvas.turned(rng.uniform(-5, 5), rng.uniform(-0.15, 0.15), ground)
    return canvas.picture(rng, wear=hard())


def _line(canvas: Canvas, rng: Random, face: Face, top: float, ink: Color, *, hard: bool) -> float:
    """Write one line from the left edge to the right; returns its height."""
    width, height = canvas.image.size
    unit = min(width, height) / SIDE
    size_px = round(unit * rng.choice((22, 26, 30)))
    if hard:
        smallest = 0.9 * LEAST_PRINT * max(width, height) / SIDE
        size_px = round(max(smallest, unit * 2 ** rng.uniform(3.5, 5.5)))
        if rng.random() < 0.12:
            size_px = round(unit * rng.uniform(48, 130))
    if size_px > 24:  # few sizes: loading a face at a new one is slow
        size_px -= size_px % 4
    step = size_px * rng.uniform(1.05, 1.5)
    x = rng.uniform(-0.3, 1.5) * size_px
    while x < width:
        stroke = 1 if hard and size_px > 24 and rng.random() < 0.05 else 0
        x += canvas.text((x, top + step / 2), random_word(rng), face, size_px, ink, stroke)
        x += size_px * rng.uniform(0.25, 0.8)
    return step


def random_word(rng: Random) -> str:
    """Letters, digits and marks in the proportions of charts and signs."""
    kind = rng.random()
    length = rng.choice((1, 1, 2, 2, 3, 3, 4, 5, 6, 8))
    if kind < 0.38:
        return "".join(rng.choice(_DIGITS) for _ in range(min(length, 5)))
    letters = "".join(rng.choice(_LETTERS) for _ in range(length))
    if kind < 0.6:
        return letters.upper()
    if kind < 0.75:
        return letters
    if kind < 0.92:
        return letters.capitalize()
    return "".join(rng.choice(_MARKS if rng.random() < 0.6 else _DIGITS) for _ in range(length))


def _scatter(canvas: Canvas, rng: Random) -> None:
    """A few shapes over the print, whose characters are then gone."""
    width, height = canvas.image.size
    for _ in range(rng.randrange(1, 6)):
        name, shade = rng.choice(SHAPES), rng.choice(COLOR_NAMES)
        across = rng.uniform(0.06, 0.3) * width
        down = across * (rng.uniform(0.45, 0.65) if name == "rectangle" else 1)
        x, y = rng.uniform(0, width - across), rng.uniform(0, height - down)
        canvas.thing(name, shade, (x, y, x + across, y + down), color(rng, shade))
        canvas.chars = [
            char
            for char in canvas.chars
            if not (x - 3 < char[0] < x + across + 3 and y - 5 < char[1] < y + down + 5)
        ]
