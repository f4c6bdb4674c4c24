"""What is trained on: pictures with what is asked about them and what is right to say."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from vlmcli import wording
from vlmcli.builtin import chart_questions, charts, plots, sequences, shapes, signs, unknown
from vlmcli.builtin.drawing import Picture
from vlmcli.builtin.fonts import Face
from vlmcli.builtin.tokens import CANNOT_TELL
from vlmcli.builtin.words import asked

QUESTIONS_A_SCENE = 8
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scene:
    """Pictures seen together, and pairs of question and answer.

    `times` are words before each picture (of a video); `chat` says that the questions follow one
    another in a conversation; `kind` is what the log counts under.
    """

    kind: str
    pictures: Sequence[Picture]
    pairs: Pairs
    times: Sequence[str] = ()
    system: str = ""
    chat: bool = False


ONE_PICTURE = {"chart": 0.32, "sign": 0.14, "text": 0.22, "shapes": 0.2, "unknown": 0.12}
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
    pictures, pairs, times = _MAKERS[kind](rng, faces, level)
    pairs = list(pairs)
    if kind not in ("unknown", "text") and rng.random() < 0.35:
        pairs[rng.randrange(len(pairs))] = (_beside_the_point(rng, kind), CANNOT_TELL)
    return Scene(
        kind,
        pictures,
        pairs,
        times,
        system=rng.choice(_SYSTEMS) if rng.random() < 0.05 else "",
        chat=rng.random() < 0.1,
    )


def short_sign(rng: Random, faces: list[Face]) -> Scene:
    """A word or two, and the question of what they say."""
    rows = signs.lines(rng, 0.0)
    picture = signs.draw(rng, faces, 0.3, rows)
    return Scene("sign", [picture], signs.pairs(rng, rows, 2)[:1])


Made = tuple[Sequence[Picture], Pairs, Sequence[str]]


def _chart(rng: Random, faces: list[Face], level: float) -> Made:
    shown = charts.chart(rng, level)
    if plots.AVAILABLE and rng.random() < 0.1 * level:
        picture = plots.draw(rng, level, shown)
    else:
        picture = charts.draw(rng, faces, level, shown)
    return [picture], chart_questions.pairs(rng, shown, QUESTIONS_A_SCENE), ()


def _sign(rng: Random, faces: list[Face], level: float) -> Made:
    rows = signs.lines(rng, level)
    return [signs.draw(rng, faces, level, rows)], signs.pairs(rng, rows, 4), ()


def _text(rng: Random, faces: list[Face], level: float) -> Made:
    """More than is asked of a sign: reading is learnt from many letters, not from many pictures."""
    rows = signs.paragraph(rng)
    return [signs.draw(rng, faces, level, rows)], signs.pairs(rng, rows, 2)[:1], ()


def _shapes(rng: Random, _faces: list[Face], level: float) -> Made:
    on = shapes.ground(rng, level)
    shown = shapes.some(rng, on, rng.randrange(1, 3 if level < rng.random() * 0.4 else 6))
    picture = shapes.draw(rng, level, on, shown)
    return [picture], shapes.pairs(rng, shown, QUESTIONS_A_SCENE), ()


def _change(rng: Random, _faces: list[Face], level: float) -> Made:
    made = sequences.change(rng, level, 3)
    return made.pictures, made.pairs, made.times


def _frames(rng: Random, _faces: list[Face], level: float) -> Made:
    made = sequences.frames(rng, level, 4)
    return made.pictures, made.pairs, made.times


def _unknown(rng: Random, faces: list[Face], _level: float) -> Made:
    questions = [any_question(rng) for _ in range(4)]
    return [unknown.draw(rng, faces)], [(question, CANNOT_TELL) for question in questions], ()


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


def _beside_the_point(rng: Random, kind: str) -> str:
    """A question that this picture, of a known kind, does not answer."""
    if kind in ("sign", "shapes") and rng.random() < 0.3:
        return _about_charts(rng)
    return unknown.question(rng)
