"""What is trained on: pictures with what is asked about them and what is right to say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from vlmcli import wording
from vlmcli.builtin import chart_questions, charts, plots, sequences, shapes, signs, unknown
from vlmcli.builtin.drawing import CHARS, Picture, draws
from vlmcli.builtin.fonts import Face
from vlmcli.builtin.tokens import CANNOT_TELL
from vlmcli.builtin.words import asked

QUESTIONS_A_SCENE = 8
Pairs = Sequence[tuple[str, str]]
Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """Pictures seen together, and pairs of question and answer.

    `times` are words before each picture (of a video); `chat` says that the questions follow one
    another in a conversation; `kind` is what the log counts under. `written` says of texts that are
    to be read where each of their characters is, from 0 to 1, a blank being nowhere; `values` what
    stands above the label of a bar.
    """

    kind: str
    pictures: Sequence[Picture]
    pairs: Pairs
    times: Sequence[str] = ()
    system: str = ""
    chat: bool = False
    written: Mapping[str, Sequence[Place | None]] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)


ONE_PICTURE = {"chart": 0.38, "sign": 0.14, "text": 0.06, "shapes": 0.32, "unknown": 0.1}
MANY_PICTURES = {"change": 0.55, "frames": 0.45}
_SYSTEMS = (
    "You are a helpful assistant.",
    "Be brief.",
    "Answer in one word.",
    "You answer questions about pictures.",
    "You see images and answer truthfully and shortly.",
)


def scene(rng: Random, faces: list[Face], level: float, *, many: bool) -> Scene:
    """A scene for training, of one picture or of several; `level` from 0 (plain) to 1."""
    kinds = MANY_PICTURES if many else ONE_PICTURE
    (kind,) = rng.choices(list(kinds), weights=list(kinds.values()))
    made = _MAKERS[kind](rng, faces, level)
    pairs = list(made.pairs)
    if kind not in ("unknown", "text") and rng.random() < 0.35:
        pairs[rng.randrange(len(pairs))] = (_beside_the_point(rng, kind), CANNOT_TELL)
    if kind in ("chart", "sign", "shapes") and rng.random() < 0.25:
        pairs[rng.randrange(len(pairs))] = _kind_of_picture(rng, kind)
    return Scene(
        kind,
        made.pictures,
        pairs,
        made.times,
        written=made.written,
        values=made.values,
        system=rng.choice(_SYSTEMS) if rng.random() < 0.05 else "",
        chat=rng.random() < 0.1,
    )


def short_sign(rng: Random, faces: list[Face]) -> Scene:
    """A word or two, and the question of what they say."""
    rows = signs.lines(rng, 0.0)
    picture = signs.draw(rng, faces, 0.3, rows)
    pairs = signs.pairs(rng, rows, 2)[:1]
    return Scene("sign", [picture], pairs, written=_written(picture, [" ".join(rows)]))


@dataclass(frozen=True, slots=True)
class _Made:
    pictures: Sequence[Picture]
    pairs: Pairs
    times: Sequence[str] = ()
    written: Mapping[str, Sequence[Place | None]] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)


def _written(picture: Picture, texts: Sequence[str]) -> dict[str, Sequence[Place | None]]:
    """Where the last texts that were written on a picture are, if they are all still on it."""
    places = iter([(float(x), float(y)) for x, y in picture.chars[:, :2]])
    wanted = [char for text in texts for char in text if char != " "]
    codes = [int(code) for code in picture.chars[:, 2]][-len(wanted) :]
    if codes != [CHARS.index(char) for char in wanted]:
        return {}
    for _ in range(len(picture.chars) - len(wanted)):
        next(places)
    return {text: [None if char == " " else next(places) for char in text] for text in texts}


def _chart(rng: Random, faces: list[Face], level: float) -> _Made:
    shown = charts.chart(rng, level)
    if plots.AVAILABLE and draws() and rng.random() < 0.1 * level:
        picture = plots.draw(rng, level, shown)
    else:
        picture = charts.draw(rng, faces, level, shown)
    texts = [text for pair in zip(shown.values, shown.labels, strict=True) for text in pair]
    pairs = chart_questions.pairs(rng, shown, QUESTIONS_A_SCENE)
    written = _written(picture, texts)
    values = dict(zip(shown.labels, shown.values, strict=True)) if written else {}
    return _Made([picture], pairs, written=written, values=values)


def _sign(rng: Random, faces: list[Face], level: float) -> _Made:
    rows = signs.lines(rng, level)
    picture = signs.draw(rng, faces, level, rows)
    pairs = signs.pairs(rng, rows, 2)
    return _Made([picture], pairs, written=_written(picture, [" ".join(rows)]))


def _text(rng: Random, faces: list[Face], level: float) -> _Made:
    """More than is asked of a sign: reading is learnt from many letters, not from many pictures."""
    rows = signs.paragraph(rng)
    picture = signs.draw(rng, faces, level, rows)
    pairs = signs.pairs(rng, rows, 2)[:1]
    return _Made([picture], pairs, written=_written(picture, [" ".join(rows)]))


def _shapes(rng: Random, _faces: list[Face], level: float) -> _Made:
    on = shapes.ground(rng, level)
    shown = shapes.some(rng, on, rng.randrange(1, 3 if level < rng.random() * 0.4 else 6))
    picture = shapes.draw(rng, level, on, shown)
    return _Made([picture], shapes.pairs(rng, shown, QUESTIONS_A_SCENE))


def _change(rng: Random, _faces: list[Face], level: float) -> _Made:
    made = sequences.change(rng, level, 3)
    return _Made(made.pictures, made.pairs, made.times)


def _frames(rng: Random, _faces: list[Face], level: float) -> _Made:
    made = sequences.frames(rng, level, 4)
    return _Made(made.pictures, made.pairs, made.times)


def _unknown(rng: Random, faces: list[Face], _level: float) -> _Made:
    questions = [any_question(rng) for _ in range(4)]
    return _Made([unknown.draw(rng, faces)], [(one, CANNOT_TELL) for one in questions])


_MAKERS = {
    "chart": _chart,
    "sign": _sign,
    "text": _text,
    "shapes": _shapes,
    "change": _change,
    "frames": _frames,
    "unknown": _unknown,
}


def any_question(rng: Random) -> str:
    """What may be asked of a picture that shows nothing known."""
    kind = rng.random()
    if kind < 0.25:
        return rng.choice([*wording.CAPTION_STYLES.values(), "describe this image"])
    if kind < 0.5:
        return unknown.question(rng)
    if kind < 0.65:
        return _about_charts(rng)
    if kind < 0.8:
        return asked(rng, signs.SAYS)
    return _about_shapes(rng)


def _about_charts(rng: Random) -> str:
    forms = rng.choice(
        (
            chart_questions.HIGHEST,
            chart_questions.LOWEST,
            chart_questions.HIGHEST_VALUE,
            chart_questions.HOW_MANY,
        )
    )
    return asked(rng, rng.choice((forms, chart_questions.JAPANESE["highest value"])))


def _about_shapes(rng: Random) -> str:
    on = shapes.ground(rng, 0)
    return shapes.pairs(rng, shapes.some(rng, on, 3), 1)[0][0]


_SHOWN = {"chart": ("a chart", "a bar chart"), "sign": ("a sign",)}
"""What the pictures of a kind are of."""


def _kind_of_picture(rng: Random, kind: str) -> tuple[str, str]:
    """Whether a picture is a chart, or a sign."""
    of = kind if kind in _SHOWN and rng.random() < 0.5 else rng.choice([*_SHOWN])
    return wording.shows(rng.choice(_SHOWN[of])), "yes" if of == kind else "no"


def _beside_the_point(rng: Random, kind: str) -> str:
    """A question that this picture, of a known kind, does not answer."""
    if kind in ("sign", "shapes") and rng.random() < 0.3:
        return _about_charts(rng)
    return unknown.question(rng)
