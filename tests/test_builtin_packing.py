"""How scenes become tensors: the tokenizer, the labels of cells, the questions packed in a row."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import example, given, settings, strategies
from PIL import Image as Pixels

from vlmcli.backends.local import processors, prompt
from vlmcli.builtin import fonts, model, samples, tokens, unknown, words
from vlmcli.builtin.batches import Lesson, Packer, stack
from vlmcli.builtin.drawing import CELL, CHARS, COLOR_NAMES, SIDE, START, THINGS, Canvas, Picture
from vlmcli.builtin.heads import DenseHead
from vlmcli.builtin.ideal import IdealEye
from vlmcli.builtin.labels import (
    PLACE_WAVES,
    SLOT_HEIGHT,
    SLOT_WIDTH,
    SLOTS_ACROSS,
    SLOTS_DOWN,
    SPOKEN,
    Truth,
    by_cell,
    place_waves,
)
from vlmcli.builtin.model import IMAGE_TOKENS
from vlmcli.builtin.samples import Scene
from vlmcli.messages import Image, Message, Text

PILLOWS_OWN = [fonts.Face("", "Aileron")]  # on every machine
CELLS = SIDE // CELL
TOKENIZER = tokens.build()
SPELLER = tokens.Speller(TOKENIZER)
IMAGE, END = TOKENIZER.convert_tokens_to_ids([tokens.IMAGE, tokens.END])
Ideal = Callable[[Truth], torch.Tensor]
PACKER = Packer(SPELLER, IMAGE, END, TOKENIZER.pad_token_id)


class Sober(Random):
    """Misspells nothing, and keeps no cell that does not matter."""

    def random(self) -> float:
        return 0.99


def a_scene(seed: int) -> Scene:
    return samples.scene(Random(seed), PILLOWS_OWN, 0.5, many=seed % 5 == 0)


# The tokenizer


def unspaced(text: str) -> str:
    return "".join(text.split())


SOME_WORDS = ("bar", "barn", "The", "HIGHEST", "値", "棒グラフ", "User:", " ", "  ", "\n", "?", "é")
questions = strategies.lists(
    strategies.one_of(strategies.sampled_from(SOME_WORDS), strategies.text(max_size=5))
).map("".join)


@settings(max_examples=60, deadline=None)
@given(strategies.text(max_size=80))
def test_any_text_that_is_spelt_comes_back_from_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(SPELLER.spelt(text)) == text
    assert TOKENIZER.decode(SPELLER.answer(text)) == text.replace(tokens.READ, "")


@settings(max_examples=100, deadline=None)
@given(questions)
@example("what is the highest bar?")
def test_any_question_comes_back_from_the_tokenizer_but_for_its_blanks(text: str) -> None:
    assert unspaced(TOKENIZER.decode(SPELLER.question(text))) == unspaced(text)


@pytest.mark.parametrize("name", [tokens.START, tokens.IMAGE, tokens.END, tokens.PAD])
def test_a_mark_of_the_conversation_is_one_token_and_no_part_of_an_answer(name: str) -> None:
    (one,) = SPELLER.question(name)
    assert one in TOKENIZER.all_special_ids
    assert TOKENIZER.decode([one], skip_special_tokens=True) == ""


def test_the_refusal_is_one_token_to_say_which_no_question_holds() -> None:
    (refusal,) = SPELLER.answer(tokens.CANNOT_TELL)
    assert refusal not in SPELLER.question(tokens.CANNOT_TELL)


def test_what_is_read_from_a_picture_is_spelt_and_what_is_said_is_in_words() -> None:
    assert len(SPELLER.answer("yes")) == 1
    assert len(SPELLER.answer(words.read("yes"))) == 3


@pytest.mark.parametrize(
    ("question", "cut"),
    [
        ("which bar is the highest?", ["which", "bar", "is", "the", "highest", "?"]),
        ("Which BAR", ["Which", "BAR"]),
        ("what's  in\tit", ["what", "'", "s", "in", "it"]),
        ("barn", [*"barn"]),
        ("embark", [*"embark"]),
        ("bar1", [*"bar1"]),
        ("a barn", ["a", "Ġ", *"barn"]),
        ("棒グラフの最高値は何ですか", ["棒グラフ", "の", "最高値", "は", "何ですか"]),
    ],
)
def test_a_question_is_cut_into_whole_words_and_the_bytes_of_others(
    question: str, cut: list[str]
) -> None:
    assert TOKENIZER.convert_ids_to_tokens(SPELLER.question(question)) == cut


def test_a_japanese_question_comes_back_and_takes_fewer_tokens_than_characters() -> None:
    for question in unknown.JAPANESE.split("|"):
        ids = SPELLER.question(question)
        assert TOKENIZER.decode(ids) == question
        assert len(ids) < len(question)


def test_a_misspelt_question_has_the_same_text_in_more_tokens() -> None:
    question = "what is the value of the highest bar"
    usual, misspelt = SPELLER.question(question), 0
    for seed in range(200):
        ids = SPELLER.question(question, Random(seed))
        assert unspaced(TOKENIZER.decode(ids)) == unspaced(question)
        misspelt += len(ids) > len(usual)
        assert ids == usual or len(ids) > len(usual)
    assert 5 < misspelt < 50


def test_every_answer_and_question_of_the_recipe_comes_back_from_the_tokenizer() -> None:
    for seed in range(100):
        for question, answer in a_scene(seed).pairs:
            assert TOKENIZER.decode(SPELLER.answer(answer)) == answer.replace(tokens.READ, "")
            ids = SPELLER.question(question, Random(seed))
            assert unspaced(TOKENIZER.decode(ids)) == unspaced(question)


def test_tokens_keep_the_numbers_that_a_model_is_trained_with() -> None:
    said = {tokens.CANNOT_TELL: 260, "neither": 344}
    asked = {"above": 278, "KEYWORDS": 1284, "User:": 1286, "ですか": 1324}
    assert {text: SPELLER.answer(text) for text in said} == {t: [n] for t, n in said.items()}
    assert {text: SPELLER.question(text) for text in asked} == {t: [n] for t, n in asked.items()}
    assert len(TOKENIZER) == 1325


# The labels of cells


def written(*marks: tuple[str, tuple[int, int]], shape: str = "", shade: str = "red") -> Picture:
    """Characters with their middles there, and a shape over the cells 10 to 13, down and across."""
    canvas = Canvas.blank((SIDE, SIDE), (255, 255, 255))
    for char, at in marks:
        canvas.centered(at, char, PILLOWS_OWN[0], 12, (0, 0, 0))
    if shape:
        canvas.thing(shape, shade, (160, 160, 223, 223), (200, 0, 0))
    return canvas.picture(Random(0), wear=False)


def truth_of(*pictures: Picture) -> Truth:
    return stack(pictures).truth


def test_the_labels_say_which_character_is_where_and_what_is_under_each_cell() -> None:
    truth = truth_of(written(("K", (101, 61)), ("7", (40, 200)), shape="square"))
    slots = torch.zeros(1, SLOTS_DOWN, SLOTS_ACROSS, dtype=torch.int64)
    slots[0, 61 // SLOT_HEIGHT, 101 // SLOT_WIDTH] = 1 + CHARS.index("K")
    slots[0, 200 // SLOT_HEIGHT, 40 // SLOT_WIDTH] = 1 + CHARS.index("7")
    assert torch.equal(truth.slots, slots)
    before = [1 + START, 1 + START]  # both stand alone
    assert truth.before[truth.before > 0].tolist() == before * 2
    square = torch.zeros(1, CELLS, CELLS, dtype=torch.int64)
    square[:, 10:14, 10:14] = 1
    assert torch.equal(truth.things, square * (1 + THINGS.index("square")))
    assert torch.equal(truth.colors, square * (1 + COLOR_NAMES.index("red")))


def test_the_slots_of_a_cell_are_those_within_it_row_by_row() -> None:
    slots = torch.arange(2 * SLOTS_DOWN * SLOTS_ACROSS).view(2, SLOTS_DOWN, SLOTS_ACROSS)
    cells = by_cell(slots)
    down, across = CELL // SLOT_HEIGHT, CELL // SLOT_WIDTH
    assert cells.shape == (2, IMAGE_TOKENS, down * across)
    for cell in (0, 1, CELLS, 7 * CELLS + 3, IMAGE_TOKENS - 1):
        y, x = cell // CELLS * down, cell % CELLS * across
        within = slots[:, y : y + down, x : x + across]
        assert torch.equal(cells[:, cell], within.flatten(1))


def test_the_waves_of_a_place_tell_each_cell_from_every_other() -> None:
    waves = place_waves(CELLS, torch.device("cpu"))
    assert waves.shape == (IMAGE_TOKENS, PLACE_WAVES)
    assert waves.abs().max() <= 1
    apart = torch.cdist(waves, waves) + torch.eye(IMAGE_TOKENS)
    assert apart.min() > 0.1
    across, down = waves.view(CELLS, CELLS, 2, -1).unbind(2)
    assert torch.equal(across, across[:1].expand_as(across))  # the same in every row
    assert torch.equal(down, down[:, :1].expand_as(down))


@pytest.fixture(scope="module")
def ideal() -> Ideal:
    torch.manual_seed(0)
    eye, spoken = IdealEye(64), torch.randn(len(SPOKEN), 64) / 8
    return lambda truth: eye(truth, spoken)


@pytest.mark.parametrize(
    "other",
    [
        written(("L", (101, 61)), shape="square"),  # another character
        written(("K", (105, 61)), shape="square"),  # in another slot of the same cell
        written(("K", (101, 69)), shape="square"),  # in a slot below
        written(shape="square"),
    ],
)
def test_an_ideal_eye_sees_which_character_is_where(ideal: Ideal, other: Picture) -> None:
    one, another = ideal(truth_of(written(("K", (101, 61)), shape="square"), other))
    differs = (one - another).abs().amax(-1) > 1e-3
    here = {61 // CELL * CELLS + 101 // CELL, 69 // CELL * CELLS + 101 // CELL}
    assert set(differs.nonzero().flatten().tolist()) <= here and differs.any()


def test_an_ideal_eye_sees_shapes_and_colours_and_tells_blank_cells_apart(ideal: Ideal) -> None:
    with torch.no_grad():
        square, circle, blue, blank = ideal(
            truth_of(
                written(shape="square"),
                written(shape="circle"),
                written(shape="square", shade="blue"),
                written(),
            )
        )
    middle, corner = 11 * CELLS + 11, 0
    for other in (circle, blue, blank):
        assert not torch.allclose(square[middle], other[middle], atol=1e-3)
        assert torch.equal(square[corner], other[corner])
    assert (torch.cdist(blank, blank) + torch.eye(IMAGE_TOKENS)).min() > 0.01


def test_what_an_ideal_eye_sees_is_enough_to_name_everything(ideal: Ideal) -> None:
    truth = truth_of(written(*zip("Kitten", [(x, 50) for x in range(20, 260, 40)], strict=True),
                             shape="star"))  # fmt: skip
    with torch.no_grad():
        cells = ideal(truth)
    head = DenseHead(64)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.1)
    for _ in range(12):
        loss, counts = head(cells, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert counts["char"] == counts["chars"] == len("Kitten")
    assert counts["thing"] == counts["color"] == counts["things"] > 4


# Questions packed in a row

PAIRS = (("is there a square", "yes"), ("what does it say", words.read("K")))
LABELLED = written(("K", (101, 61)), shape="square")
LETTER = 61 // CELL * CELLS + 101 // CELL
SQUARE = 11 * CELLS + 11  # its middle
AROUND = (-1, 0, 1)


def pack(*scenes: Scene, around: int | None = None) -> Lesson:
    return PACKER.pack(scenes, Sober(0), around)


def one_by_one(lesson: Lesson, row: int = 0) -> list[list[int]]:
    """Where in the row each question with its answer stands."""
    spoken = lesson.answers[row]
    numbers = sorted({int(number) for number in spoken} - {-1})
    ends = [int((spoken == number).nonzero().max()) + 1 for number in numbers]
    first = int((lesson.ids[row] == IMAGE).nonzero().max())
    return [
        list(range(start + 1, end + 1)) for start, end in zip([first, *ends], ends, strict=False)
    ]


def test_a_sparse_row_holds_the_cells_that_matter_each_at_its_own_place() -> None:
    lesson = pack(Scene("sign", [LABELLED], PAIRS), around=0)
    assert lesson.cells.tolist() == [LETTER, SQUARE]
    here = lesson.ids[0] == IMAGE
    before = int(here.nonzero().min())
    assert torch.equal(lesson.positions[0][here], before + lesson.cells)
    for question in one_by_one(lesson):  # an image takes all its positions
        assert int(lesson.positions[0, question[0]]) == before + IMAGE_TOKENS


def test_with_the_cells_around_an_eye_may_be_off_by_one() -> None:
    lesson = pack(Scene("sign", [LABELLED], PAIRS), around=1)
    near = {cell + dx + dy * CELLS for cell in (LETTER, SQUARE) for dx in AROUND for dy in AROUND}
    assert set(lesson.cells.tolist()) == near


def test_a_sparse_row_says_the_same_at_the_same_positions_as_a_whole_one() -> None:
    for seed in range(10):
        scene = a_scene(seed)
        whole, sparse = pack(scene), pack(scene, around=0)
        assert len(whole.cells) == IMAGE_TOKENS * len(scene.pictures) > len(sparse.cells)
        for of in ("ids", "positions", "labels", "answers"):
            said = [
                getattr(lesson, of)[(lesson.ids != IMAGE) & (lesson.ids != TOKENIZER.pad_token_id)]
                for lesson in (whole, sparse)
            ]
            assert torch.equal(*said), of


def test_a_few_cells_that_do_not_matter_are_kept_as_well() -> None:
    scene = Scene("sign", [LABELLED], PAIRS)
    counts = [len(PACKER.pack([scene], Random(seed), 0).cells) for seed in range(20)]
    assert 2 <= min(counts) < 0.05 * IMAGE_TOKENS
    assert 0.15 * IMAGE_TOKENS < max(counts) < IMAGE_TOKENS


def test_image_tokens_stand_for_the_cells_of_their_own_picture() -> None:
    other = written(("B", (8, 8)))
    two = Scene("change", [other, LABELLED], PAIRS, times=("at 1 s: ", "at 2 s: "))
    lesson = pack(Scene("sign", [LABELLED], PAIRS), two, around=0)
    assert lesson.cells.tolist()[-1] // IMAGE_TOKENS == 2
    at, start = 0, []
    for row in range(2):
        positions = lesson.positions[row][lesson.ids[row] == IMAGE].tolist()
        cells = lesson.cells[at : at + len(positions)].tolist()
        at += len(positions)
        start += [
            (cell // IMAGE_TOKENS, position - cell % IMAGE_TOKENS)
            for cell, position in zip(cells, positions, strict=True)
        ]
    assert at == len(lesson.cells)
    starts = dict(start)
    assert set(start) == set(starts.items()) and set(starts) == {0, 1, 2}  # one for a picture
    assert starts[2] - starts[1] == IMAGE_TOKENS + len(SPELLER.question("at 2 s: "))


def test_pictures_with_nothing_on_them_can_be_packed() -> None:
    lesson = pack(Scene("unknown", [written()], [("hi", tokens.CANNOT_TELL)]), around=0)
    assert lesson.cells.tolist() == [] and lesson.cells.dtype == torch.int64
    assert lesson.kinds == ("unknown?",)


def sees(lesson: Lesson, token: int) -> set[int]:
    return set(lesson.allowed[0, 0, token].nonzero().flatten().tolist())


@pytest.mark.parametrize("around", [None, 0])
def test_a_question_sees_the_pictures_and_itself_and_no_other_question(around: int | None) -> None:
    lesson = pack(Scene("sign", [LABELLED], PAIRS), around=around)
    first, second = one_by_one(lesson)
    shown = set(range(first[0]))
    for question in (first, second):
        for i, token in enumerate(question):
            assert sees(lesson, token) == shown | set(question[: i + 1])


def test_in_a_conversation_a_question_sees_and_follows_what_was_said_before() -> None:
    lesson = pack(Scene("sign", [LABELLED], PAIRS, chat=True))
    _, second = one_by_one(lesson)
    assert sees(lesson, second[-1]) == set(range(second[-1] + 1))
    assert lesson.positions[0, : second[-1] + 1].tolist() == list(range(second[-1] + 1))
    assert TOKENIZER.decode(lesson.ids[0, second]).startswith("User:")


def test_the_labels_are_the_answers_token_by_token() -> None:
    scenes = [a_scene(seed) for seed in range(6)]
    lesson = pack(*scenes)
    pairs = [pair for scene in scenes for pair in scene.pairs]
    assert len(lesson.kinds) == len(pairs)
    for number, (_, answer) in enumerate(pairs):
        here = lesson.answers == number
        said = lesson.labels[here].tolist()
        assert said == [*SPELLER.answer(answer), END]
        # Each label is the token that stands next in the row.
        assert lesson.ids[here.roll(1, dims=1)].tolist() == said


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> processors.Processor:
    """As the program loads it from the folder of the model."""
    folder = tmp_path_factory.mktemp("model")
    model.config(TOKENIZER).save_pretrained(folder)
    model.save_processor(folder)
    return processors.load(folder, "builtin")


@pytest.mark.parametrize("seed", range(15))
def test_the_program_asks_the_model_just_as_the_training_does(
    processor: processors.Processor, seed: int
) -> None:
    scene = replace(a_scene(seed), chat=False)
    lesson = pack(scene)
    pixels = model.normalized(lesson.seen.pixels)
    first = one_by_one(lesson)[0][0]
    for question, (asked, _) in zip(one_by_one(lesson), scene.pairs, strict=True):
        said = int((lesson.answers[0, question] >= 0).nonzero().min())
        packed = lesson.ids[0, [*range(first), *question[: said + 1]]]
        inputs = prompt.prepare(processor, conversation(scene, asked)).inputs
        assert inputs["input_ids"][0].tolist() == packed.tolist(), asked
        assert torch.allclose(inputs["pixel_values"], pixels, atol=1e-5)


def conversation(scene: Scene, question: str) -> list[Message]:
    parts: list[Text | Image] = []
    for i, picture in enumerate(scene.pictures):
        parts += [Text(scene.times[i])] if scene.times else []
        parts.append(Image(f"{i}.png", Pixels.fromarray(picture.pixels), ""))
    system = [Message("system", (Text(scene.system),))] if scene.system else []
    return [*system, Message("user", (*parts, Text(question)))]
