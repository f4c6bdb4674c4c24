"""Scenes of coloured shapes, and what people ask about them."""

from dataclasses import dataclass, replace
from random import Random

from vlmcli import wording
from vlmcli.builtin.drawing import COLOR_NAMES, SHAPES, Canvas, Color, Picture, color, contrast
from vlmcli.builtin.words import article, asked, cased, listed

Ask = tuple[str, str]
CLOSEST = 0.06
"""Of the picture's longer side: how far the middles of two shapes are apart at least, both across
and down, so that they have an order."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A shape; its middle and its size (across) are in parts of the picture's side."""

    name: str
    color: str
    x: float
    y: float
    size: float
    fill: Color = (0, 0, 0)

    @property
    def full(self) -> str:
        return f"{self.color} {self.name}"

    @property
    def area(self) -> float:
        return self.size**2 * (0.55 if self.name == "rectangle" else 1.0)

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """In pixels; square in the picture as it is drawn, however wide that is."""
        side = self.size * min(width, height)
        tall = side * 0.55 if self.name == "rectangle" else side
        x, y = self.x * width, self.y * height
        return (x - side / 2, y - tall / 2, x + side / 2, y + tall / 2)


@dataclass(frozen=True, slots=True)
class Ground:
    """What shapes are drawn on."""

    size: tuple[int, int]
    color: Color


def ground(rng: Random, level: float) -> Ground:
    size = (320, 320)
    if rng.random() < level:
        size = rng.choice(((448, 448), (640, 480), (400, 300), (512, 512), (300, 400), (224, 224)))
    kind = rng.random()
    shade = rng.randrange(225, 256)
    if kind < 0.5 or level < 0.2:
        return Ground(size, (255, 255, 255))
    if kind < 0.7:
        return Ground(size, (shade, shade, shade))
    if kind < 0.8:
        dark = rng.randrange(30)
        return Ground(size, (dark, dark, dark))
    return Ground(size, (rng.randrange(185, 256), rng.randrange(185, 256), rng.randrange(185, 256)))


def some(rng: Random, on: Ground, count: int) -> list[Shape]:
    """Shapes apart from one another, from top to bottom, each to be told from the ground."""
    found: list[Shape] = []
    kinds = rng.sample(SHAPES, rng.randrange(1, 4)) if rng.random() < 0.5 else list(SHAPES)
    for _ in range(200):
        if len(found) == count:
            break
        new = one(rng, on, kinds, rng.uniform(0.1, 0.36 if count > 2 else 0.5))
        if all(apart(new, old, on) for old in found):
            found.append(new)
    return sorted(found, key=lambda shape: shape.y)


def one(rng: Random, on: Ground, kinds: list[str], size: float) -> Shape:
    while True:
        name = rng.choice(COLOR_NAMES)
        fill = color(rng, name)
        if stands_out(fill, on):
            break
    side = size * min(on.size)
    rx, ry = side / 2 / on.size[0] + 0.01, side / 2 / on.size[1] + 0.01
    x, y = rng.uniform(rx, 1 - rx), rng.uniform(ry, 1 - ry)
    return Shape(rng.choice(kinds), name, x, y, size, fill)


def stands_out(fill: tuple[int, int, int], on: Ground) -> bool:
    """Whether a colour can be seen on the ground."""
    furthest = max(abs(a - b) for a, b in zip(fill, on.color, strict=True))
    return furthest > 70 or contrast(fill, on.color) > 0.3


def apart(one: Shape, other: Shape, on: Ground) -> bool:
    """Neither touching nor so alike in place or size that a question about it would be unfair."""
    width, height = on.size
    dx, dy = abs(one.x - other.x) * width, abs(one.y - other.y) * height
    reach = (one.size + other.size) / 2 * min(width, height) + 4
    ratio = max(one.area, other.area) / min(one.area, other.area)
    side = max(width, height)
    return max(dx, dy) > reach and min(dx, dy) > CLOSEST * side and ratio > 1.25


def draw(rng: Random, level: float, on: Ground, shapes: list[Shape]) -> Picture:
    canvas = Canvas.blank(on.size, on.color)
    for shape in shapes:
        canvas.thing(shape.name, shape.color, shape.box(*on.size), shape.fill)
    return canvas.picture(rng, wear=rng.random() < level)


CAPTION = (
    *(wording.CAPTION_STYLES[style] for style in ("short", "detailed", "alt")),
    "what is in the picture?",
    "what is there",
    "what do you see?",
    "what is in this image?",
    "describe this image",
    "describe the picture",
    "caption this",
    "what's in the image?",
    "which shapes are there?",
    "what shapes are in the picture?",
    "list the shapes",
    "what is this?",
)


def caption(shapes: list[Shape]) -> str:
    """From top to bottom."""
    said = listed([article(shape.full) for shape in shapes])
    return f"{said[0].upper()}{said[1:]}."


def pairs(rng: Random, shapes: list[Shape], count: int) -> list[Ask]:
    makers = [_caption, _count, _count, _is_there, _is_there]
    if _alone(shapes):
        makers += [_color, _color, _color]
    if len(_alone(shapes)) > 1:
        makers += [_side, _side, _side, _bigger, _bigger, _bigger, _above, _above]
    return [make(rng, shapes) for make in rng.choices(makers, k=count)]


def _alone(shapes: list[Shape]) -> list[Shape]:
    """Shapes that their name alone points at."""
    names = [shape.name for shape in shapes]
    return [shape for shape in shapes if names.count(shape.name) == 1]


def _named(rng: Random, shape: Shape) -> str:
    return shape.full if rng.random() < 0.3 else shape.name


def _caption(rng: Random, shapes: list[Shape]) -> Ask:
    return rng.choice(CAPTION), caption(shapes)


def _count(rng: Random, shapes: list[Shape]) -> Ask:
    forms = (
        "how many {} are there|how many {}|number of {}|count the {}|how many {} do you see"
        "|how many {} are in the picture"
    )
    kind = rng.random()
    if kind < 0.45:
        what, found = rng.choice(("shapes", "objects", "things")), len(shapes)
    elif kind < 0.75:
        name = rng.choice(shapes).name if rng.random() < 0.75 else rng.choice(SHAPES)
        what, found = f"{name}s", sum(shape.name == name for shape in shapes)
    else:
        shade = rng.choice(shapes).color if rng.random() < 0.75 else rng.choice(COLOR_NAMES)
        what, found = f"{shade} shapes", sum(shape.color == shade for shape in shapes)
    return cased(rng, asked(rng, forms).replace("{}", what)), str(found)


def _is_there(rng: Random, shapes: list[Shape]) -> Ask:
    forms = (
        "is there {}|is there {} in the picture|do you see {}|can you see {}|is {} there"
        "|does it show {}|{}, yes or no"
    )
    shape, true = rng.choice(shapes), rng.random() < 0.45
    name, shade = shape.name, shape.color
    if rng.random() < 0.4:
        what = article(name if true else rng.choice(SHAPES))
        found = any(what == article(shape.name) for shape in shapes)
    else:
        if not true and rng.random() < 0.6:  # there in another colour: the harder to deny
            shade = rng.choice((rng.choice(shapes).color, rng.choice(COLOR_NAMES)))
        elif not true:
            name, shade = rng.choice(SHAPES), rng.choice((shade, rng.choice(COLOR_NAMES)))
        what = article(f"{shade} {name}")
        found = any(what == article(shape.full) for shape in shapes)
    answer = "yes" if found else "no"
    if rng.random() < 0.3:
        return wording.shows(what), answer
    return cased(rng, asked(rng, forms).replace("{}", what)), answer


def _color(rng: Random, shapes: list[Shape]) -> Ask:
    shape = rng.choice(_alone(shapes))
    spelt = rng.choice(("color", "colour"))
    forms = (
        "what color is the {}|color of the {}|which color is the {}|what is the color of the {}"
        "|the {} is what color|what color has the {}|{} color"
    )
    if len(shapes) == 1:
        forms += "|what color is it|which color|what color is the shape"
    question = asked(rng, forms).replace("color", spelt).replace("{}", shape.name)
    return cased(rng, question), shape.color


def _two(rng: Random, shapes: list[Shape]) -> tuple[Shape, Shape]:
    one, other = rng.sample(_alone(shapes), 2)
    return one, other


def _side(rng: Random, shapes: list[Shape]) -> Ask:
    one, other = _two(rng, shapes)
    truth = "left" if one.x < other.x else "right"
    names = (_named(rng, one), _named(rng, other))
    if rng.random() < 0.6:
        forms = (
            "is the {} left or right of the {}|is the {} to the left or to the right of the {}"
            "|on which side of the {1} is the {0}|{} left or right of {}"
            "|the {} is on which side of the {}|where is the {}, left or right of the {}"
        )
        return cased(rng, _filled(asked(rng, forms), names)), truth
    side = rng.choice(("left", "right"))
    forms = (
        f"is the {{}} to the {side} of the {{}}|is the {{}} {side} of the {{}}|{{}} {side} of {{}}"
    )
    return cased(rng, _filled(asked(rng, forms), names)), "yes" if side == truth else "no"


def _above(rng: Random, shapes: list[Shape]) -> Ask:
    one, other = _two(rng, shapes)
    if abs(one.y - other.y) < 0.08:
        return _side(rng, shapes)
    truth = "above" if one.y < other.y else "below"
    names = (_named(rng, one), _named(rng, other))
    forms = (
        "is the {} above or below the {}|{} above or below {}|is the {} higher or lower than the {}"
    )
    question = asked(rng, forms)
    if "higher" in question:
        return _filled(question, names), {"above": "higher", "below": "lower"}[truth]
    return cased(rng, _filled(question, names)), truth


def _bigger(rng: Random, shapes: list[Shape]) -> Ask:
    one, other = _two(rng, shapes)
    names = (_named(rng, one), _named(rng, other))
    larger = rng.random() < 0.5
    words = ("larger", "bigger") if larger else ("smaller",)
    wins = (one.area > other.area) == larger
    how = rng.choice(words)
    if rng.random() < 0.5:
        forms = (
            f"which is {how}, the {{}} or the {{}}|what is {how}, the {{}} or the {{}}"
            f"|which one is {how}: {{}} or {{}}"
        )
        return cased(
            rng, _filled(asked(rng, forms), names)
        ), f"the {one.name if wins else other.name}"
    if rng.random() < 0.5:
        forms = "is the {} larger or smaller than the {}|is the {} bigger or smaller than the {}"
        return _filled(asked(rng, forms), names), "larger" if one.area > other.area else "smaller"
    forms = f"is the {{}} {how} than the {{}}|{{}} {how} than {{}}"
    return cased(rng, _filled(asked(rng, forms), names)), "yes" if wins else "no"


def _filled(question: str, names: tuple[str, str]) -> str:
    if "{0}" in question:
        return question.replace("{0}", names[0]).replace("{1}", names[1])
    return question.replace("{}", names[0], 1).replace("{}", names[1], 1)


def moved(shape: Shape, dx: float, dy: float) -> Shape:
    return replace(shape, x=shape.x + dx, y=shape.y + dy)
