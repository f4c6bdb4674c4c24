"""`--choices`: how they are written, and which one is the answer."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import FakeEngine, Run, draw
from test_builtin_model import chart, scene

from vlmcli import backends
from vlmcli.messages import Chosen, Done, Message
from vlmcli.settings import Settings

DONE = Done("stop", 76, 64, 3, 0.5, 1.0)


@pytest.fixture
def weighing(fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An engine to which the second choice is the likeliest; what it was asked."""
    calls: list[Any] = []

    def choose(conversation: Sequence[Message], choices: Sequence[str]) -> Chosen:
        calls.append((conversation, choices))
        return Chosen((0.25, 0.75, *[0.0] * (len(choices) - 2)), DONE)

    def load(settings: Settings) -> backends.Engine:
        return replace(fake_engine.load(settings), choose=choose)

    monkeypatch.setattr(backends, "load", load)
    return calls


@pytest.mark.parametrize(
    "written",
    [["a, b ,c d"], ["a", "b,c d"], ['["a", "b", "c d"]'], ["@list.txt"], ["a,b,a", "c d,b"]],
)
def test_choices_are_written_in_several_ways(
    run: Run,
    picture: Path,
    weighing: list[Any],
    written: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("a\n b\n\nc d\n")
    flags = [word for one in written for word in ("--choices", one)]

    assert run("ask", picture, "which?", *flags) == (0, "b\n", "")
    assert weighing[0][1] == ("a", "b", "c d")


def test_a_comma_inside_a_choice_is_written_in_a_list(
    run: Run, picture: Path, weighing: list[Any]
) -> None:
    assert run("ask", picture, "?", "--choices", '["yes, a lot", "no, none"]')[1] == "no, none\n"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("a", "--choices: one of what? there is only 'a'"),
        ("a,,b", "--choices: a choice is empty"),
        ("[1, 2]", "--choices: the choices of a JSON list are texts"),
        ("[", "--choices: not a JSON list"),
        ("@nowhere.txt", "--choices: nowhere.txt: no such file"),
        ("a,b\udcff", "--choices: 'b\\udcff' is not valid UTF-8"),
        ("", "--choices: the value is empty"),
    ],
)
def test_what_are_no_choices_is_named_before_a_model_loads(
    run: Run, picture: Path, fake_engine: FakeEngine, written: str, said: str
) -> None:
    code, out, err = run("ask", picture, "which?", "--choices", written)
    assert (code, out) == (2, "") and said in err and err.count("\n") == 1
    assert fake_engine.loads == []


def test_json_has_the_probability_of_each(run: Run, picture: Path, weighing: list[Any]) -> None:
    record = json.loads(run("ask", picture, "which?", "--choices", "a,b,c", "--json")[1])
    assert record["text"] == "b"
    assert record["probabilities"] == {"a": 0.25, "b": 0.75, "c": 0.0}
    assert record["settings"] == {"choices": ["a", "b", "c"]}
    assert record["finish_reason"] == "stop"


def test_a_temperature_draws_by_probability_and_a_seed_says_which(
    run: Run, picture: Path, weighing: list[Any]
) -> None:
    def drawn(seed: int, temperature: str) -> str:
        flags = ("--choices", "a,b,c", "-t", temperature, "--seed", seed)
        return run("ask", picture, "which?", *flags)[1].strip()

    at_one = [drawn(seed, "1") for seed in range(40)]
    assert at_one == [drawn(seed, "1") for seed in range(40)]
    assert 4 <= at_one.count("a") <= 16 and "c" not in at_one
    assert {drawn(seed, "0.05") for seed in range(20)} == {"b"}


def test_several_pictures_have_a_line_each(run: Run, tmp_path: Path, weighing: list[Any]) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    code, out, err = run("caption", a, b, "-p", "which?", "--choices", "x,y")
    assert (code, out, err) == (0, f"{a}\ty\n{b}\ty\n", "")


def test_an_engine_that_cannot_weigh_says_so(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    code, out, err = run("ask", picture, "which?", "--choices", "a,b")
    assert (code, out) == (4, "") and "fake cannot weigh choices" in err


@pytest.mark.parametrize("other", [("--schema", "a"), ("-x",), ("--schema-multi", "a")])
def test_an_answer_has_one_form(
    run: Run, picture: Path, fake_engine: FakeEngine, other: tuple[str, ...]
) -> None:
    code, out, err = run("ask", picture, "which?", "--choices", "a,b", *other)
    assert (code, out, fake_engine.loads) == (2, "", [])
    assert "--choices and --" in err and "two forms of an answer" in err


def test_what_is_typed_beats_the_form_that_is_usual(
    run: Run, picture: Path, weighing: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_SCHEMA", "name, age int")
    monkeypatch.setenv("VLM_EXTRACT", "1")
    assert run("ask", picture, "which?", "--choices", "a,b") == (0, "b\n", "")
    monkeypatch.setenv("VLM_CHOICES", "a,b")
    code, _, err = run("ask", picture, "which?")
    assert code == 2 and "VLM_CHOICES and VLM_SCHEMA" in err


def test_a_chat_is_in_words_whatever_is_usual(
    say: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_CHOICES", "a,b")
    code, lines, err = say("hello")
    assert (code, err) == (0, "") and lines[0] not in ("a", "b")
    assert "/set choices: a chat is in words" in say("/set choices a,b")[2]
    assert run("chat", "--choices", "a,b")[0] == 2


# ---- the model that ships inside

COLOURS = ["red", "blue", "green", "yellow", "purple", "black"]
SHAPES = ["circle", "square", "triangle"]
Asked = tuple[Path, str, list[str], str]


def drawn(folder: Path, number: int) -> list[Asked]:
    """Pictures, questions about them, the choices and the right one; the same each time."""
    chance = Random(number)
    names, colours = chance.sample(SHAPES, 2), chance.sample(COLOURS, 2)
    spots = [(chance.randint(90, 140), chance.randint(90, 350)), (330, chance.randint(90, 350))]
    both = zip(names, colours, spots, (140, 120), strict=True)
    two = scene(folder / f"two{number}.png", list(both))
    one = scene(folder / f"one{number}.png", [(names[0], colours[0], (224, 224), 150)])
    labels, values = chance.sample("ABCDEFGHKLMNPRST", 3), chance.sample(range(10, 60, 8), 3)
    bars = list(zip(labels, values, ("teal", "gold", "navy"), strict=True))
    three = chart(folder / f"chart{number}.png", bars)
    sought = chance.choice(SHAPES)
    return [
        (two, f"what color is the {names[0]}?", COLOURS, colours[0]),
        (two, f"is there a {sought}?", ["yes", "no"], "yes" if sought in names else "no"),
        (one, "what shape is it?", SHAPES, names[0]),
        (three, "highest bar?", sorted(labels), labels[values.index(max(values))]),
        (three, "how many bars are there?", ["2", "3", "4", "5"], "3"),
    ]


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "load", kept(backends.load))


def kept(load: Any) -> Any:
    engines: list[backends.Engine] = []

    def load_once(settings: Settings) -> backends.Engine:
        engines[:] = engines or [load(settings)]
        return engines[0]

    return load_once


@pytest.mark.usefixtures("loaded_once")
def test_choices_are_right_on_the_pictures_that_the_built_in_model_knows(
    run: Run, tmp_path: Path
) -> None:
    asked = [one for number in range(8) for one in drawn(tmp_path, number)]
    right = free = 0
    for picture, question, choices, answer in asked:
        command = ("ask", picture, question, "-m", "builtin")
        right += run(*command, "--choices", ",".join(choices))[1] == f"{answer}\n"
        free += run(*command)[1] == f"{answer}\n"

    assert right >= 0.95 * len(asked)
    assert right >= free
