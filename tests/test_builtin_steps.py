"""What the decoder is asked half way up: where a value is, how two things stand, what changed."""

from random import Random

import pytest
import torch
from test_builtin_packing import PACKER, PILLOWS_OWN, TOKENIZER

from vlmcli.builtin import samples, sequences, shapes, words
from vlmcli.builtin.batches import Lesson
from vlmcli.builtin.drawing import COLOR_NAMES
from vlmcli.builtin.heads import DeepHead
from vlmcli.builtin.labels import CHANGES, cell_at
from vlmcli.builtin.samples import Scene
from vlmcli.builtin.shapes import Ground, Shape

WHITE = Ground((320, 320), (255, 255, 255))
SQUARE = Shape("square", "red", 0.25, 0.25, 0.3, (255, 0, 0))
CIRCLE = Shape("circle", "blue", 0.7, 0.75, 0.15, (0, 0, 255))


def pack(scene: Scene) -> Lesson:
    return PACKER.pack([scene], Random(0), 0)


def drawn(*shown: Shape) -> samples.Picture:
    return shapes.draw(Random(0), 0.0, WHITE, list(shown))


def charts() -> list[Scene]:
    scenes = (samples.scene(Random(seed), PILLOWS_OWN, 0.0, many=False) for seed in range(60))
    return [scene for scene in scenes if scene.values]


def test_a_label_and_a_question_that_names_it_know_where_the_value_begins() -> None:
    asked = 0
    for scene in charts():
        lesson = pack(scene)
        value_of = {words.read(value): value for value in scene.values.values()}
        for label, value in scene.values.items():
            first, start = scene.written[label][0], scene.written[value][0]
            assert first and start
            column = lesson.cells.tolist().index(cell_at(*first))
            image = (lesson.ids[0] == TOKENIZER.convert_tokens_to_ids("<image>")).nonzero()
            assert lesson.where[0, int(image[column])].tolist() == pytest.approx(start)
        for number, (question, answer) in enumerate(scene.pairs):
            begins = int((lesson.answers[0] == number).nonzero().min())
            named = [label for label in scene.values if question.find(label) >= 0]
            if answer not in value_of or not named or scene.values[named[0]] != value_of[answer]:
                continue
            spelt = [
                i for i in range(begins - 8, begins)
                if TOKENIZER.decode(lesson.ids[0, i]).strip() == named[0][-1]
            ]  # fmt: skip
            place = scene.written[value_of[answer]][0]
            if spelt and lesson.where[0, spelt[-1], 0] >= 0:
                asked += 1
                assert lesson.where[0, spelt[-1]].tolist() == pytest.approx(place)
                # The answer cannot know it yet when it is asked.
                assert lesson.where[0, begins].tolist() == [-1, -1]
    assert asked > 5


def test_the_second_of_two_names_is_asked_how_the_first_stands_to_it() -> None:
    question = "is the circle left or right of the square?"
    lesson = pack(Scene("shapes", [drawn(SQUARE, CIRCLE)], [(question, "right"), ("circles", "1")]))
    (circle, square, alone) = lesson.named.tolist()
    names = [TOKENIZER.decode(lesson.ids[row, column]).strip() for row, column, *_ in lesson.named]
    assert names == ["circle", "square", "circles"]
    assert (circle[4], square[4], alone[4]) == (-1, 0, -1)  # not across questions
    assert [COLOR_NAMES[one[3] - 1] for one in (circle, square)] == ["blue", "red"]
    head = DeepHead(8)
    with torch.no_grad():
        head.stands.weight.zero_()
        losses = []
        for signs in ((-9.0, -9.0, -9.0), (9.0, 9.0, 9.0)):
            head.stands.bias.copy_(torch.tensor(signs))
            losses.append(float(head.compare(torch.zeros(1, 8), *lesson.spans[:2].split(1))))
    right_below_and_smaller, left_above_and_larger = losses
    assert right_below_and_smaller < 0.01 < 5 < left_above_and_larger


@pytest.mark.parametrize("seed", range(30))
def test_things_know_what_became_of_them_since_the_picture_before(seed: int) -> None:
    made = sequences.change(Random(seed), 0.5, 1)
    lesson = pack(Scene("change", made.pictures, made.pairs, made.times))
    changes = [CHANGES[change] for _, _, change in lesson.since.tolist()]
    said = made.pairs[0][1]
    happened = {change for change in changes if change != "same"}
    if said == "Nothing changed." or "disappeared" in said:
        assert not happened
    else:
        (one,) = happened
        word = {"new": "appeared", "color": "changed from"}.get(one, one)
        assert word in said
    assert len(changes) == len(made.pictures[1].marks)
