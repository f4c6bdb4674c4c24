"""A canvas that remembers what was drawn where, and the picture that the model gets of it."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vlmcli.builtin import fonts
from vlmcli.builtin.fonts import Face

SIDE = 320
"""Pixels of a picture's side, as the model sees it."""
CELL = 16
"""Pixels of the side of a cell: what one image token, and one label of a thing, stands for."""
LEAST_PRINT = 13.0
"""The smallest print, in pixels of the model's picture, from ascender to descender or so."""
EDGE = (127, 127, 127)
"""What the processor makes a picture square with."""
READABLE = 0.38
"""The least contrast between print and its ground."""
CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,:;!?-+%$&/#'\"()"
"""The characters that the pictures hold."""

GAP, START = len(CHARS), len(CHARS) + 1
"""What else may stand before a character: a blank, or nothing."""

Color = tuple[int, int, int]
# Name -> hue, and spans of saturation and value (0 to 1): no two colours meet.
COLORS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "red": ((-0.02, 0.015), (0.75, 1.0), (0.7, 1.0)),
    "orange": ((0.065, 0.1), (0.85, 1.0), (0.92, 1.0)),
    "yellow": ((0.14, 0.17), (0.7, 1.0), (0.9, 1.0)),
    "green": ((0.29, 0.4), (0.55, 1.0), (0.4, 0.85)),
    "blue": ((0.57, 0.67), (0.6, 1.0), (0.55, 1.0)),
    "purple": ((0.75, 0.82), (0.5, 1.0), (0.4, 0.75)),
    "pink": ((0.89, 0.95), (0.25, 0.6), (0.95, 1.0)),
    "brown": ((0.05, 0.085), (0.55, 0.85), (0.35, 0.55)),
    "black": ((0.0, 1.0), (0.0, 0.1), (0.0, 0.12)),
    "white": ((0.0, 1.0), (0.0, 0.02), (0.97, 1.0)),
    "gray": ((0.0, 1.0), (0.0, 0.05), (0.4, 0.65)),
}
COLOR_NAMES = tuple(COLORS)
SHAPES = ("circle", "square", "triangle", "rectangle", "star", "diamond")
THINGS = (*SHAPES, "bar")


def color(rng: Random, name: str) -> Color:
    """A shade of the named colour."""
    hue, saturation, value = (rng.uniform(*span) for span in COLORS[name])
    i, fraction = divmod(hue % 1.0 * 6, 1)
    low, down = value * (1 - saturation), value * (1 - saturation * fraction)
    up = value * (1 - saturation * (1 - fraction))
    table = [(value, up, low), (down, value, low), (low, value, up)]
    table += [(low, down, value), (up, low, value), (value, low, down)]
    red, green, blue = table[int(i) % 6]
    return round(red * 255), round(green * 255), round(blue * 255)


def contrast(one: Color, other: Color) -> float:
    """How far apart two colours are in lightness and in hue, 0 to about 1."""
    weights = (0.3, 0.59, 0.11)
    light = abs(sum(w * (a - b) for w, a, b in zip(weights, one, other, strict=True)))
    return (light + 0.12 * max(abs(a - b) for a, b in zip(one, other, strict=True))) / 255


def readable_pair(rng: Random) -> tuple[Color, Color]:
    """A background and an ink that can be read on it; black on white is the commonest."""
    if rng.random() < 0.3:
        gray = rng.randrange(40)
        return (255, 255, 255), (gray, gray, gray)
    shade = rng.choice((rng.randrange(256), 255, rng.randrange(200, 256), rng.randrange(60)))
    ground = (shade, shade, shade)
    if rng.random() < 0.5:
        ground = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
    return ground, readable_on(rng, ground)


def readable_on(rng: Random, ground: Color) -> Color:
    """An ink that can be read on that background."""
    while True:
        ink = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        if contrast(ground, ink) > READABLE:
            return ink


def code(char: str) -> int:
    """Of a character, as one that stands before another."""
    return CHARS.index(char) if char in CHARS else GAP


@dataclass(frozen=True, slots=True)
class Picture:
    """What the model sees, and the labels that the renderer knows for free.

    `chars` has a row (x, y, index in CHARS, index of the one before, of the one before that, x of
    the middle of its word) for each character, places from 0 to 1; those before are in one text,
    with GAP for a blank and START before its first. `things` holds, for each cell, 0 or 1 + index
    in THINGS, and 0 or 1 + index in COLOR_NAMES; `marks` a row (x, y, across, down, index in
    THINGS, 0 or 1 + index in COLOR_NAMES) for each thing, at its middle; at its top if it is a bar.
    """

    pixels: np.ndarray  # (SIDE, SIDE, 3) uint8
    chars: np.ndarray  # (n, 6) float32
    things: np.ndarray  # (2, SIDE / CELL, SIDE / CELL) uint8
    marks: np.ndarray  # (n, 6) float32


_LABELS_ALONE = ContextVar("labels alone", default=False)


@contextmanager
def labels_alone() -> Iterator[None]:
    """Pictures are blank here, and have the labels of what would be on them: drawing takes longer
    than to learn from the labels."""
    before = _LABELS_ALONE.set(True)
    try:
        yield
    finally:
        _LABELS_ALONE.reset(before)


def draws() -> bool:
    """Whether there is any use in drawing."""
    return not _LABELS_ALONE.get()


@dataclass(slots=True)
class Canvas:
    """A picture in the making; `scale` says how large its sizes are beside those of SIDE."""

    image: Image.Image
    things: Image.Image
    chars: list[tuple[float, float, int, int, int, float]] = field(default_factory=list)
    marks: list[tuple[float, float, float, float, int, int]] = field(default_factory=list)

    @classmethod
    def blank(cls, size: tuple[int, int], ground: Color) -> "Canvas":
        return cls(Image.new("RGB", size, ground), Image.new("L", size, 0))

    @property
    def draw(self) -> ImageDraw.ImageDraw:
        return ImageDraw.Draw(self.image)

    def thing(self, name: str, color_name: str, box: tuple[float, ...], fill: Color) -> None:
        """Draw a shape that fills `box` (left, top, right, bottom); "" is a colour of no name."""
        shade = 1 + COLOR_NAMES.index(color_name) if color_name else 0
        value = 1 + THINGS.index(name) + 16 * shade
        left, top, right, bottom = box
        middle = top if name == "bar" else (top + bottom) / 2
        size = (right - left, bottom - top)
        self.marks.append(((left + right) / 2, middle, *size, THINGS.index(name), shade))
        layers: list[tuple[ImageDraw.ImageDraw, Any]] = [(self.draw, fill)] if draws() else []
        for draw, ink in (*layers, (ImageDraw.Draw(self.things), value)):
            if name == "circle":
                draw.ellipse(box, fill=ink)
            elif name in ("square", "rectangle", "bar"):
                draw.rectangle(box, fill=ink)
            else:
                draw.polygon(_corners(name, box), fill=ink)

    def text(self, at: tuple[float, float], words: str, face: Face, size_px: int, ink: Color,
             stroke: int = 0, after: str = "") -> float:  # fmt: skip
        """Write from `at`, the left end of the middle of the line; returns its width.

        `after` is the text that this one goes on from: that of the line above.
        """
        loaded = fonts.font(face, size_px)
        x, y = at
        if draws():
            self.draw.text((x, y), words, fill=ink, font=loaded, anchor="lm", stroke_width=stroke)
        ends = [0.0]
        for char in words:
            ends.append(ends[-1] + loaded.getlength(char))
        _, top, _, base = loaded.getbbox("H", anchor="lm")
        y += (top + base) / 2  # of the capitals: what can be seen of where a line is
        said = [code(char) for char in after[-2:]]
        said = [START] * (2 - len(said)) + said
        for i, char in enumerate(words):
            if char in CHARS:
                first = words.rfind(" ", 0, i) + 1
                last = words.find(" ", i) if " " in words[i:] else len(words)
                middle = x + (ends[first] + ends[last]) / 2
                place = x + (ends[i] + ends[i + 1]) / 2
                self.chars.append((place, y, CHARS.index(char), said[-1], said[-2], middle))
            said.append(code(char))
        return ends[-1]

    def centered(self, at: tuple[float, float], words: str, face: Face, size_px: int,
                 ink: Color, after: str = "") -> float:  # fmt: skip
        """Write with the middle of the line at `at`; returns its width."""
        width = fonts.font(face, size_px).getlength(words)
        self.text((at[0] - width / 2, at[1]), words, face, size_px, ink, after=after)
        return width

    def turned(self, degrees: float, shear: float, ground: Color) -> None:
        """Turn and shear everything about the middle, a few degrees at most."""
        width, height = self.image.size
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        a, b, c, d = cos, -sin + shear * cos, sin, cos + shear * sin  # picture -> source
        e, f = width / 2 * (1 - a) - height / 2 * b, height / 2 * (1 - d) - width / 2 * c
        how = Image.Transform.AFFINE
        if draws():
            self.image = self.image.transform(
                (width, height),
                how,
                (a, b, e, c, d, f),
                Image.Resampling.BILINEAR,
                fillcolor=ground,
            )
        self.things = self.things.transform(self.things.size, how, (a, b, e, c, d, f))
        det = a * d - b * c

        def at(x: float, y: float) -> tuple[float, float]:
            return (d * (x - e) - b * (y - f)) / det, (a * (y - f) - c * (x - e)) / det

        self.chars = [
            (*at(x, y), char, before, earlier, at(middle, y)[0])
            for x, y, char, before, earlier, middle in self.chars
        ]
        self.marks = [(*at(x, y), *rest) for x, y, *rest in self.marks]  # type: ignore[misc]

    def picture(self, rng: Random, *, wear: bool = True) -> Picture:
        """As the model's processor would hand it on; with `wear`, sometimes blurred or noisy."""
        side = max(self.image.size)
        left, top = (side - self.image.width) // 2, (side - self.image.height) // 2
        pixels = self._seen(rng, wear) if draws() else np.zeros((SIDE, SIDE, 3), np.uint8)
        chars = np.array(self.chars, np.float32).reshape(-1, 6)
        chars[:, :2] = (chars[:, :2] + (left, top)) / side
        chars[:, 5] = (chars[:, 5] + left) / side
        inside = ((chars[:, :2] >= 0) & (chars[:, :2] < 1)).all(axis=1)
        marks = self._seen_marks()
        marks[:, :2] = (marks[:, :2] + (left, top)) / side
        marks[:, 2:4] /= side
        whole = ((marks[:, :2] >= 0) & (marks[:, :2] < 1)).all(axis=1)
        cells = SIDE // CELL
        things = _squared(self.things, side, 0)
        grid = np.asarray(things.resize((cells, cells), Image.Resampling.NEAREST))
        return Picture(pixels, chars[inside], np.stack([grid % 16, grid // 16]), marks[whole])

    def _seen(self, rng: Random, wear: bool) -> np.ndarray:
        sampling = Image.Resampling.BICUBIC
        if wear and rng.random() < 0.2:
            sampling = rng.choice((Image.Resampling.BILINEAR, Image.Resampling.LANCZOS))
        square = _squared(self.image, max(self.image.size), EDGE)
        small = square.resize((SIDE, SIDE), sampling)
        if wear and rng.random() < 0.15:
            small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.7)))
        pixels = np.asarray(small)
        return _noisy(pixels, rng) if wear and rng.random() < 0.2 else pixels

    def _seen_marks(self) -> np.ndarray:
        """The marks of things whose middle is not under another."""
        seen = []
        width, height = self.things.size
        for x, y, across, down, kind, shade in self.marks:
            at = (min(width - 1, max(0, int(x))), min(height - 1, max(0, int(y))))
            if kind == THINGS.index("bar") or self.things.getpixel(at) % 16 == 1 + kind:  # type: ignore[operator]
                seen.append((x, y, across, down, kind, shade))
        return np.array(seen, np.float32).reshape(-1, 6)


def _squared(image: Image.Image, side: int, edge: int | Color) -> Image.Image:
    """The image in the middle of a square, as the processor of LLaVA pads it."""
    if image.size == (side, side):
        return image
    square = Image.new(image.mode, (side, side), edge)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _noisy(pixels: np.ndarray, rng: Random) -> np.ndarray:
    noise = np.random.default_rng(rng.getrandbits(32))
    grain = noise.normal(0, rng.uniform(2, 9), pixels.shape)
    return np.clip(pixels + grain, 0, 255).astype(np.uint8)


def _corners(name: str, box: tuple[float, ...]) -> Sequence[tuple[float, float]]:
    left, top, right, bottom = box
    x, y, across, down = (
        (left + right) / 2,
        (top + bottom) / 2,
        (right - left) / 2,
        (bottom - top) / 2,
    )
    if name == "triangle":
        return [(x, top), (right, bottom), (left, bottom)]
    if name == "diamond":
        return [(x, top), (right, y), (x, bottom), (left, y)]
    points = []
    for i in range(10):  # a star of five points
        reach, angle = (1.0 if i % 2 == 0 else 0.42), math.pi * i / 5
        points.append((x + reach * across * math.sin(angle), y - reach * down * math.cos(angle)))
    return points
