"""Two pictures compared, and a few frames in order."""

from dataclasses import dataclass, replace
from random import Random

from vlmcli import wording
from vlmcli.builtin import shapes
from vlmcli.builtin.drawing import COLOR_NAMES, SHAPES, Picture, color
from vlmcli.builtin.shapes import Ask, Ground, Shape
from vlmcli.builtin.words import article, asked, cased

CHANGED = (
    "what changed|what has changed|what is different|what's the difference|difference|compare"
    "|what is the difference between the two images|compare the two pictures|spot the difference"
    "|what changed between the images|which thing changed|how do the images differ|what's new"
    "|describe the change|how are they different|what changed from the first to the second"
)
WAY = (
    "which way does the {} move|which way does it move|where does the {} move|direction of the {}"
    "|in which direction does the {} move|where is the {} going|which way is the {} moving"
    "|does the {} move left, right, up or down|which direction|what direction does it move in"
    "|which way is it going|where is it going|where does it go"
)
HAPPENS = (
    "what happens|what happens in the video|what is happening|describe the video|describe this clip"
    "|what happens here|describe what happens|what is going on|summarize the video|what moves"
    "|how does it move|what happens in these frames|what do the frames show"
)
CAPTIONS = tuple(wording.CAPTION_STYLES[style] for style in ("short", "detailed"))
_TIMES = (
    "{:.1f} s\n",
    "[{:.1f} s] ",
    "{:.2f}s: ",
    "Frame {n} at {:.1f} s:\n",
    "Frame {n}: ",
    "<{:.1f} seconds>",
    "{m}:{s:04.1f}\n",
    "at {:.1f} s: ",
)
WAYS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True, slots=True)
class Sequence:
    """Pictures in order, what is asked, and words before each (the times of a video)."""

    pictures: tuple[Picture, ...]
    pairs: tuple[Ask, ...]
    times: tuple[str, ...] = ()


def change(rng: Random, level: float, count: int) -> Sequence:
    """Two pictures, the same but for one thing, or quite the same."""
    on = shapes.ground(rng, level)
    before = shapes.some(rng, on, rng.randrange(1, 5 if level > 0.3 else 3))
    before = [shape for shape in before if [s.name for s in before].count(shape.name) == 1] or [
        before[0]
    ]
    after, said = _changed(rng, on, before)
    drawn = (shapes.draw(rng, level, on, before), shapes.draw(rng, level, on, after))
    found = [(cased(rng, asked(rng, CHANGED)), said) for _ in range(count)]
    return Sequence(drawn, tuple(found), _times(rng, 2) if rng.random() < 0.1 else ())


def _changed(rng: Random, on: Ground, before: list[Shape]) -> tuple[list[Shape], str]:
    i = rng.randrange(len(before))
    old = before[i]
    kind = rng.choice(("color", "color", "move", "move", "move", "size", "new", "gone", "none"))
    if kind == "none":
        return before, "Nothing changed."
    if kind == "gone":
        if len(before) == 1:
            kind = "color"
        else:
            return [*before[:i], *before[i + 1 :]], f"The {old.full} disappeared."
    if kind == "color":
        names = [name for name in COLOR_NAMES if name not in (old.color, "white", "gray")]
        while not shapes.stands_out(fill := color(rng, name := rng.choice(names)), on):
            pass
        new = replace(old, color=name, fill=fill)
        return _with(before, i, new), f"The {old.name} changed from {old.color} to {name}."
    if kind == "size":
        factor = rng.uniform(1.5, 2.0) if old.size < 0.25 else rng.uniform(0.45, 0.65)
        new = replace(old, size=old.size * factor)
        return _with(
            before, i, new
        ), f"The {old.full} {'grew larger' if factor > 1 else 'became smaller'}."
    if kind == "new":
        names = [name for name in SHAPES if name not in [shape.name for shape in before]]
        for _ in range(50):
            new = shapes.one(rng, on, names, rng.uniform(0.12, 0.3))
            if all(shapes.apart(new, shape, on) for shape in before):
                return [*before, new], f"{article(new.full).capitalize()} appeared."
    others = [*before[:i], *before[i + 1 :]]
    for _ in range(50):
        way, new = _moved(rng, old, rng.uniform(0.2, 0.5))
        if not any(_covers(other, new) for other in others):
            break
    return _with(before, i, new), f"The {old.full} moved {_toward(way)}."


def _with(before: list[Shape], i: int, new: Shape) -> list[Shape]:
    return [*before[:i], new, *before[i + 1 :]]


def _covers(one: Shape, other: Shape) -> bool:
    """Whether they could hide each other."""
    reach = (one.size + other.size) / 2
    return max(abs(one.x - other.x), abs(one.y - other.y)) < reach


def _toward(way: str) -> str:
    return f"to the {way}" if way in ("left", "right") else way


def _moved(rng: Random, shape: Shape, far: float) -> tuple[str, Shape]:
    """Moved along one axis, to where there is room."""
    room = {"right": 1 - shape.x, "left": shape.x, "up": shape.y, "down": 1 - shape.y}
    ways = [way for way, free in room.items() if free > 0.3 + shape.size / 2]
    way = rng.choice(ways or [max(room, key=lambda way: room[way])])
    reach = min(far, room[way] - shape.size / 2 - 0.01)
    dx, dy = WAYS[way]
    return way, shapes.moved(shape, dx * reach, dy * reach)


def frames(rng: Random, level: float, count: int) -> Sequence:
    """Two to four frames in which one shape moves, or nothing does."""
    on = shapes.ground(rng, level)
    number = rng.randrange(2, 5)
    mover = shapes.one(rng, on, list(SHAPES), rng.uniform(0.1, 0.3))
    way = rng.choice(list(WAYS))
    dx, dy = WAYS[way]
    reach = rng.uniform(0.3, 0.9 - mover.size)
    at = rng.uniform(mover.size / 2 + 0.02, 0.98 - mover.size / 2 - reach)
    across = rng.uniform(mover.size / 2, 1 - mover.size / 2)
    start = at if dx + dy > 0 else at + reach
    mover = replace(mover, x=start if dx else across, y=start if dy else across)
    still = rng.random() < 0.08
    drawn = []
    for i in range(number):
        part = 0.0 if still else reach * i / (number - 1)
        shape = shapes.moved(mover, dx * part, dy * part)
        drawn.append(shapes.draw(rng, level, on, [shape]))
    found = [_frame_pair(rng, mover, way, still=still) for _ in range(count)]
    return Sequence(tuple(drawn), tuple(found), _times(rng, number) if rng.random() < 0.8 else ())


def _frame_pair(rng: Random, mover: Shape, way: str, *, still: bool) -> Ask:
    if rng.random() < 0.5 and not still:
        named = rng.choice((mover.name, mover.name, mover.full, "shape"))
        return cased(rng, asked(rng, WAY).replace("{}", named)), way
    question = rng.choice(CAPTIONS) if rng.random() < 0.2 else asked(rng, HAPPENS)
    said = "Nothing moves." if still else f"The {mover.full} moves {_toward(way)}."
    return question, said


def _times(rng: Random, count: int) -> tuple[str, ...]:
    """Times before the frames, as programs write them."""
    step, start = rng.uniform(0.1, 5), rng.uniform(0, 2)
    times = [start + step * i for i in range(count)]
    if rng.random() < 0.5:  # as vlm does
        first, *more = [f"{time}\n" for time in wording.frame_times(times)]
        return (f"{wording.SEQUENCE}\n{first}", *more)
    form = rng.choice(_TIMES)
    return tuple(
        form.format(time, n=i + 1, m=int(time // 60), s=time % 60) for i, time in enumerate(times)
    )
