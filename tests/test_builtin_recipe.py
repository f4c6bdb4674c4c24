"""What the built-in model is taught with: each picture, its labels and its answers agree."""

import re
import tomllib
from collections import Counter
from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest

from vlmcli.builtin import chart_questions as about_charts
from vlmcli.builtin import (
    charts,
    checkpoints,
    evaluate,
    fonts,
    pages,
    samples,
    sequences,
    shapes,
    signs,
    tokens,
    unknown,
    words,
)
from vlmcli.builtin.drawing import CELL, CHARS, COLOR_NAMES, SHAPES, SIDE, THINGS, Canvas, Picture
from vlmcli.builtin.labels import truth_of
from vlmcli.builtin.samples import Scene
from vlmcli.builtin.shapes import Ground, Shape

SEEDS = range(50)
PILLOWS_OWN = [fonts.Face("", "Aileron")]  # on every machine
SAID = tokens.READ


def page(seed: int) -> Scene:
    return Scene("page", [pages.page(Random(seed), PILLOWS_OWN, 1.0)], [])


def chart(seed: int) -> Scene:
    rng = Random(seed)
    shown = charts.chart(rng, 1.0)
    picture = charts.draw(rng, PILLOWS_OWN, 1.0, shown)
    return Scene("chart", [picture], about_charts.pairs(rng, shown, 3))


def sign(seed: int) -> Scene:
    rng = Random(seed)
    rows = signs.lines(rng, 1.0)
    return Scene("sign", [signs.draw(rng, PILLOWS_OWN, 1.0, rows)], signs.pairs(rng, rows, 3))


def some_shapes(seed: int) -> Scene:
    rng = Random(seed)
    on = shapes.ground(rng, 1.0)
    shown = shapes.some(rng, on, 3)
    return Scene("shapes", [shapes.draw(rng, 1.0, on, shown)], shapes.pairs(rng, shown, 3))


def change(seed: int) -> Scene:
    made = sequences.change(Random(seed), 1.0, 2)
    return Scene("change", made.pictures, made.pairs, made.times)


def frames(seed: int) -> Scene:
    made = sequences.frames(Random(seed), 1.0, 3)
    return Scene("frames", made.pictures, made.pairs, made.times)


def foreign(seed: int) -> Scene:
    rng = Random(seed)
    picture = unknown.draw(rng, PILLOWS_OWN, held_out=seed % 3 == 0)
    return Scene("unknown", [picture], [(samples.any_question(rng), tokens.CANNOT_TELL)])


def any_scene(seed: int) -> Scene:
    return samples.scene(Random(seed), PILLOWS_OWN, 1.0, many=seed % 5 == 0)


Maker = Callable[[int], Scene]
every_kind = pytest.mark.parametrize(
    "make", [page, chart, sign, some_shapes, change, frames, foreign, any_scene]
)


@every_kind
def test_a_seed_gives_the_same_pictures_and_questions_again(make: Maker) -> None:
    for seed in range(8):
        one, again = make(seed), make(seed)
        assert (one.pairs, one.times) == (again.pairs, again.times)
        for picture, same in zip(one.pictures, again.pictures, strict=True):
            assert np.array_equal(picture.pixels, same.pixels)
            assert np.array_equal(picture.chars, same.chars)
            assert np.array_equal(picture.things, same.things)


@every_kind
def test_seeds_give_pictures_that_differ(make: Maker) -> None:
    assert len({make(seed).pictures[0].pixels.tobytes() for seed in range(10)}) >= 9


@every_kind
def test_pictures_and_labels_have_the_size_and_the_range_that_the_training_wants(
    make: Maker,
) -> None:
    for seed in range(20):
        for picture in make(seed).pictures:
            assert picture.pixels.shape == (SIDE, SIDE, 3)
            assert picture.pixels.dtype == np.uint8
            assert picture.things.shape == (2, SIDE // CELL, SIDE // CELL)
            assert picture.things[0].max() <= len(THINGS)
            assert picture.things[1].max() <= len(COLOR_NAMES)
            assert not ((picture.things[1] > 0) & (picture.things[0] == 0)).any()
            assert ((picture.chars[:, :2] >= 0) & (picture.chars[:, :2] < 1)).all()
            assert set(picture.chars[:, 2]) <= set(range(len(CHARS)))


@pytest.mark.parametrize("make", [chart, sign])
def test_next_to_no_printed_character_shares_its_slot_with_another(make: Maker) -> None:
    printed_in_all, shared = 0, 0
    for seed in SEEDS:
        (picture,) = make(seed).pictures
        slots = truth_of(picture).slots
        held = Counter(slots[slots > 0].tolist())
        assert held <= Counter(1 + int(index) for index in picture.chars[:, 2])
        printed_in_all += len(picture.chars)
        shared += len(picture.chars) - held.total()
    assert shared < 0.02 * printed_in_all


def printed(picture: Picture) -> str:
    return "".join(CHARS[int(index)] for index in picture.chars[:, 2])


def cells(picture: Picture, name: str) -> np.ndarray:
    """(n, 2): row and column of the cells on which that thing lies."""
    return np.argwhere(picture.things[0] == 1 + THINGS.index(name))


def test_a_page_is_dark_where_its_labels_say_that_a_letter_is() -> None:
    for seed in range(10):
        picture = pages.page(Random(seed), PILLOWS_OWN, 0.0)
        assert len(picture.chars) > 30
        for x, y, index in picture.chars[:, :3]:
            row, column = int(y * SIDE), int(x * SIDE)
            if index < 62 and 8 < row < SIDE - 8 and 8 < column < SIDE - 8:
                around = picture.pixels[row - 8 : row + 8, column - 8 : column + 8]
                assert around.min() < 128, (seed, CHARS[int(index)])


# Signs


def test_the_labels_of_an_upright_sign_spell_its_words() -> None:
    for seed in SEEDS:
        rng = Random(seed)
        rows = signs.lines(rng, 0.5)
        picture = signs.draw(rng, PILLOWS_OWN, 0.0, rows)
        assert printed(picture) == "".join(rows).replace(" ", "")


def test_a_sign_turned_or_worn_has_no_characters_but_its_own() -> None:
    for seed in SEEDS:
        rng = Random(seed)
        rows = signs.lines(rng, 1.0)
        found = Counter(printed(signs.draw(rng, PILLOWS_OWN, 1.0, rows)))
        assert found and found <= Counter("".join(rows))


def test_every_answer_about_a_sign_reads_all_its_words() -> None:
    for seed in SEEDS:
        rng = Random(seed)
        rows = signs.lines(rng, 1.0)
        said = f"{SAID}{' '.join(rows)}{SAID}"
        for question, answer in signs.pairs(rng, rows, 3):
            captioned = question in signs.CAPTION
            assert answer == (f'A sign that says "{said}".' if captioned else said)


def test_the_words_of_the_evaluation_are_not_those_of_the_training() -> None:
    rng = Random(0)
    taught = {words.word(rng).lower() for _ in range(20_000)}
    asked_for = {words.word(rng, held_out=True).lower() for _ in range(2000)}
    assert len(asked_for) > 50 and not taught & asked_for


# Charts


def test_the_highest_bar_drawn_is_the_one_with_the_largest_value_printed() -> None:
    wide = charts.Layout(bar_share=(0.8, 0.9))
    for seed in SEEDS:
        rng = Random(seed)
        shown = charts.chart(rng, 1.0)
        picture = charts.draw(rng, PILLOWS_OWN, 0.0, shown, wide)
        tail = sum(len(value + label) for value, label in bars(shown))
        spelt, places = printed(picture)[-tail:], picture.chars[-tail:, 0]
        assert spelt == "".join(value + label for value, label in bars(shown)).replace(" ", "")
        heights, at = [], 0
        for value, label in bars(shown):
            middle = places[at : at + len(value)].mean()
            column = picture.things[0][:, int(middle * SIDE / CELL)]
            heights.append(int((column == 1 + THINGS.index("bar")).sum()))
            at += len(value + label)
        for (low, short), (high, tall) in combinations(
            sorted(zip(shown.numbers, heights, strict=True)), 2
        ):
            assert low < high and short <= tall, (seed, shown)


def bars(shown: charts.Chart) -> list[tuple[str, str]]:
    return list(zip(shown.values, shown.labels, strict=True))


def bare(question: str) -> str:
    """A question without what `asked` puts around it."""
    plain = question.lower().rstrip("?!.。？ ")
    return re.sub(r"^(please tell me |tell me, |can you say |so |hey, )", "", plain)


def test_answers_about_a_chart_follow_from_the_numbers_printed() -> None:
    found: Counter[str] = Counter()
    for seed in range(120):
        rng = Random(seed)
        shown = charts.chart(rng, 1.0)
        by_label = {label: float(v.strip("%")) for v, label in bars(shown)}
        best, least = max(by_label, key=by_label.get), min(by_label, key=by_label.get)  # type: ignore[arg-type]
        value_of = dict(zip(shown.labels, shown.values, strict=True))
        right = {
            about_charts.HIGHEST: best,
            about_charts.JAPANESE["highest"]: best,
            about_charts.LOWEST: least,
            about_charts.JAPANESE["lowest"]: least,
            about_charts.HIGHEST_VALUE: value_of[best],
            about_charts.JAPANESE["highest value"]: value_of[best],
            about_charts.LOWEST_VALUE: value_of[least],
            about_charts.JAPANESE["lowest value"]: value_of[least],
            about_charts.HOW_MANY: str(len(by_label)),
            about_charts.JAPANESE["count"]: str(len(by_label)),
        }
        for question, answer in about_charts.pairs(rng, shown, 8):
            forms = next((forms for forms in right if bare(question) in forms.split("|")), "")
            said = answer.replace(SAID, "")
            found[forms] += 1
            if forms:
                assert said == right[forms], (seed, question)
            elif answer == about_charts.caption(shown):
                assert said.endswith(f"; the highest is {best} with {value_of[best]}.")
            else:
                (named,) = [k for k, v in value_of.items() if v == said]
                assert named.lower() in question.lower(), (seed, question)
    assert len(found) > 8  # all kinds were asked


def test_no_wording_asks_for_two_things() -> None:
    forms = [about_charts.HIGHEST, about_charts.LOWEST, about_charts.HIGHEST_VALUE,
             about_charts.LOWEST_VALUE, about_charts.HOW_MANY, unknown.QUESTIONS,
             unknown.QUESTIONS_HELD_OUT, unknown.ABOUT_ANYTHING,
             unknown.ABOUT_TWO_THINGS]  # fmt: skip
    for some, others in combinations([set(form.split("|")) for form in forms], 2):
        assert not some & others


# Shapes


def test_the_labels_of_shapes_lie_where_the_shapes_are() -> None:
    for seed in SEEDS:
        rng = Random(seed)
        on = Ground((320, 320), (255, 255, 255))
        shown = shapes.some(rng, on, 4)
        assert [shape.y for shape in shown] == sorted(shape.y for shape in shown)
        picture = shapes.draw(rng, 0.0, on, shown)
        for shape in shown:
            row, column = int(shape.y * 20), int(shape.x * 20)
            near = picture.things[:, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            labels = (1 + THINGS.index(shape.name), 1 + COLOR_NAMES.index(shape.color))
            assert labels in set(zip(*near.reshape(2, -1).tolist(), strict=True)), (seed, shape)
            assert tuple(picture.pixels[int(shape.y * 320), int(shape.x * 320)]) == shape.fill


def test_answers_about_shapes_follow_from_where_and_what_they_are() -> None:
    found: Counter[str] = Counter()
    for seed in range(150):
        rng = Random(seed)
        shown = shapes.some(rng, shapes.ground(rng, 1.0), rng.randrange(1, 6))
        for question, answer in shapes.pairs(rng, shown, 8):
            kind, right = truth(question, shown)
            found[kind] += 1
            assert answer == right, (seed, question, shown)
    assert set(found) == {"caption", "count", "colour", "there", "side", "height", "size"}


def truth(question: str, shown: list[Shape]) -> tuple[str, str]:
    """What is asked, and what is right to say, from the words of the question alone."""
    if question in shapes.CAPTION:
        said = words.listed([words.article(f"{s.color} {s.name}") for s in shown])
        return "caption", said[0].upper() + said[1:] + "."
    asked = question.lower()
    shades = re.findall(rf"\b({'|'.join(COLOR_NAMES)})\b", asked)
    named = [*re.finditer(rf"\b({'|'.join(SHAPES)})s?\b", asked)]
    if re.search("how many|number of|count the", asked):
        kept = [s for s in shown if not shades or s.color in shades]
        kept = [s for s in kept if not named or s.name == named[0][1]]
        return "count", str(len(kept))
    if re.search("colou?r", asked):
        kept = [s for s in shown if not named or s.name == named[0][1]]
        return "colour", kept[0].color
    if len(named) == 1:
        kept = [s for s in shown if s.name == named[0][1] and (not shades or s.color in shades)]
        return "there", "yes" if kept else "no"
    one, other = (next(s for s in shown if s.name == found[1]) for found in named)
    if asked[named[0].end() :].startswith(" is the "):  # on which side of B is A
        one, other = other, one
    return compared(asked, one, other)


def compared(asked: str, one: Shape, other: Shape) -> tuple[str, str]:
    yes_no = {True: "yes", False: "no"}
    if "above" in asked:
        return "height", "above" if one.y < other.y else "below"
    if "higher" in asked:
        return "height", "higher" if one.y < other.y else "lower"
    if "left" in asked or "right" in asked or "side" in asked:
        side = "left" if one.x < other.x else "right"
        sides = {word for word in ("left", "right") if word in asked}
        return "side", yes_no[side in sides] if len(sides) == 1 else side
    larger = one.area > other.area
    if re.search("(larger|bigger) or smaller", asked):
        return "size", "larger" if larger else "smaller"
    wins = larger != ("smaller" in asked)
    if " than " in asked:
        return "size", yes_no[wins]
    return "size", f"the {one.name if wins else other.name}"


# Sequences


def middle(picture: Picture, name: str) -> tuple[float, float]:
    """Column and row of the middle of that thing, in cells."""
    row, column = cells(picture, name).mean(axis=0)
    return float(column), float(row)


def way(before: tuple[float, float], after: tuple[float, float]) -> str:
    (dx, dy) = (after[0] - before[0], after[1] - before[1])
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def test_frames_show_the_way_that_the_answer_says() -> None:
    for seed in SEEDS:
        made = sequences.frames(Random(seed), 0.0, 3)
        name = next(name for name in SHAPES if len(cells(made.pictures[0], name)))
        path = [middle(picture, name) for picture in made.pictures]
        assert not made.times or len(made.times) == len(made.pictures)
        for _, answer in made.pairs:
            if answer == "Nothing moves.":
                assert len(set(path)) == 1
                continue
            said = answer.removesuffix(".").split()[-1]
            assert [way(a, b) for a, b in pairwise(path)] == [said] * (len(path) - 1), seed


def test_two_pictures_differ_in_what_the_answer_says() -> None:
    found: Counter[str] = Counter()
    for seed in range(150):
        made = sequences.change(Random(seed), 0.0, 1)
        (before, after), ((_, answer),) = made.pictures, made.pairs
        name = next((name for name in SHAPES if f"{name} " in answer), "")
        was, now = cells(before, name or "bar"), cells(after, name or "bar")
        kind = next(kind for kind in CHANGES if kind in answer)
        found[kind] += 1
        assert CHANGES[kind](answer, (before, was), (after, now)), (seed, answer)
    assert set(found) == set(CHANGES)


Side = tuple[Picture, np.ndarray]


def recoloured(answer: str, before: Side, after: Side) -> bool:
    old, new = re.findall(r"from (\w+) to (\w+)", answer)[0]
    shades = [{COLOR_NAMES[p.things[1][r, c] - 1] for r, c in at} for p, at in (before, after)]
    return shades == [{old}, {new}]


def gone_a_way(answer: str, before: Side, after: Side) -> bool:
    middles = [tuple(at.mean(axis=0)[::-1]) for _, at in (before, after)]
    return way(*middles) == answer.removesuffix(".").split()[-1]


CHANGES: dict[str, Callable[[str, Side, Side], bool]] = {
    "Nothing changed": lambda _, was, now: np.array_equal(was[0].pixels, now[0].pixels),
    "changed from": recoloured,
    "disappeared": lambda _, was, now: len(was[1]) > 0 and len(now[1]) == 0,
    "appeared": lambda _, was, now: len(was[1]) == 0 and len(now[1]) > 0,
    "grew larger": lambda _, was, now: len(was[1]) < len(now[1]),
    "became smaller": lambda _, was, now: len(was[1]) > len(now[1]) > 0,
    "moved": gone_a_way,
}


# What is declined, and the whole


def test_whatever_is_asked_of_a_foreign_picture_is_declined() -> None:
    scenes = [scene for seed in range(100) if (scene := any_scene(seed)).kind == "unknown"]
    assert len(scenes) > 5
    assert {answer for scene in scenes for _, answer in scene.pairs} == {tokens.CANNOT_TELL}
    assert not any(scene.pictures[0].things.any() for scene in scenes)


def test_scenes_of_every_kind_come_and_some_of_their_questions_are_beside_the_point() -> None:
    scenes = [any_scene(seed) for seed in range(150)]
    assert {scene.kind for scene in scenes} == {*samples.ONE_PICTURE, *samples.MANY_PICTURES}
    declined = [tokens.CANNOT_TELL in dict(s.pairs).values() for s in scenes if s.kind == "chart"]
    assert any(declined) and not all(declined)


@pytest.mark.parametrize(("many", "fewest", "most"), [(False, 1, 1), (True, 2, 4)])
def test_scenes_of_one_picture_and_of_several_are_drawn_apart(
    many: bool, fewest: int, most: int
) -> None:
    scenes = [samples.scene(Random(seed), PILLOWS_OWN, 0.5, many=many) for seed in range(40)]
    counts = [len(scene.pictures) for scene in scenes]
    assert (min(counts), max(counts)) == (fewest, most)


@pytest.mark.parametrize("kind", evaluate.MAKERS)
def test_the_evaluation_has_one_answer_to_each_question_and_asks_the_same_again(kind: str) -> None:
    for seed in range(10):
        task = evaluate.MAKERS[kind](Random(seed), PILLOWS_OWN)
        again = evaluate.MAKERS[kind](Random(seed), PILLOWS_OWN)
        assert (task.question, task.answer) == (again.question, again.answer)
        assert task.question and task.answer and SAID not in task.answer
        assert (task.answer == tokens.CANNOT_TELL) == (kind == "declined")


def test_a_character_off_the_picture_is_not_in_its_labels() -> None:
    canvas = Canvas.blank((100, 50), (255, 255, 255))
    canvas.text((90, 25), "IIIIIIIIII", PILLOWS_OWN[0], 20, (0, 0, 0))
    assert 0 < len(canvas.picture(Random(0), wear=False).chars) < 10


# Fonts


def test_no_face_of_the_evaluation_is_trained_with_unless_there_are_too_few() -> None:
    trained, kept = fonts.training_faces(), fonts.held_out_faces()
    assert PILLOWS_OWN[0] in trained
    assert not set(trained) & set(kept) or set(trained) <= set(kept)


# What ships


def test_the_wheel_leaves_out_what_only_the_training_needs() -> None:
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    heads = f"/vlmcli/builtin/{checkpoints.HEADS}"
    assert heads in project["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"]
