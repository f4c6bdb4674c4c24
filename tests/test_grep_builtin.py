"""`vlm grep` with the model that ships inside, about pictures of shapes that are drawn here."""

import json
from pathlib import Path
from random import Random

import pytest
from conftest import Run
from test_builtin_model import Shape, scene

BUILTIN = ("-M", "builtin")
COLOURS = ("red", "green", "blue", "yellow", "purple")
SHAPES = ("circle", "square", "triangle")
CORNERS = ((112, 112), (336, 112), (112, 336), (336, 336))

Thing = tuple[str, str]  # colour and shape; the colour is "" where any will do
THINGS: list[Thing] = [("", shape) for shape in SHAPES]
THINGS += zip(COLOURS, SHAPES * 2, strict=False)


def drawn(rng: Random, path: Path, wanted: Thing, *, there: bool) -> Path:
    """A picture of one to three shapes; if `wanted` is not there, one of its colour is as often as
    not. None has its shape in another colour: of those its card says that they are often found."""
    colour, name = wanted
    others = [(c, n) for c in COLOURS for n in SHAPES if n != name]
    alike = [thing for thing in others if colour == thing[0]] or others
    first = rng.choice(alike if rng.random() < 0.5 else others)
    things = [(colour or rng.choice(COLOURS), name) if there else first]
    things += rng.sample(others, rng.randrange(3))
    shapes: list[Shape] = [
        (n, c, (x + rng.randrange(-25, 26), y + rng.randrange(-25, 26)), rng.randrange(80, 150))
        for (c, n), (x, y) in zip(things, rng.sample(CORNERS, len(things)), strict=True)
    ]
    return scene(path, shapes)


@pytest.mark.slow
def test_it_is_right_about_95_of_100_pictures_of_shapes(run: Run, tmp_path: Path) -> None:
    rng, each = Random(20), 14
    right = {True: 0, False: 0}
    for colour, name in THINGS:
        folder = tmp_path / f"{colour}{name}"
        folder.mkdir()
        truth = {
            str(drawn(rng, folder / f"{i}.png", (colour, name), there=there)): there
            for i, there in enumerate([True, False] * (each // 2))
        }
        _, out, err = run("grep", f"a {colour} {name}".replace("  ", " "), folder, *BUILTIN)
        assert err == ""
        for file, there in truth.items():
            right[there] += (file in out.splitlines()) == there

    asked = each * len(THINGS)
    assert asked >= 100
    assert sum(right.values()) >= 0.95 * asked, f"right of {asked // 2} true and false: {right}"
    assert min(right.values()) >= 0.9 * asked / 2  # neither always yes nor always no


def test_the_pictures_with_a_shape_are_found_and_v_finds_the_others(
    run: Run, tmp_path: Path
) -> None:
    shapes = {"1": "circle", "2": "square", "3": "triangle", "4": "circle"}
    files = {
        number: scene(tmp_path / f"{number}.png", [(shape, "red", (224, 224), 150)])
        for number, shape in shapes.items()
    }
    assert run("grep", "is there a circle?", tmp_path, *BUILTIN) == (
        0,
        f"{files['1']}\n{files['4']}\n",
        "",
    )
    code, out, _ = run("grep", "-v", "is there a circle?", tmp_path, *BUILTIN)
    assert (code, out) == (0, f"{files['2']}\n{files['3']}\n")
    assert run("grep", "-q", "is there a circle?", files["2"], files["3"], *BUILTIN) == (1, "", "")


def test_a_second_statement_about_a_picture_reads_it_no_second_time(
    run: Run, tmp_path: Path
) -> None:
    picture = scene(tmp_path / "a.png", [("circle", "red", (224, 224), 150)])
    _, out, _ = run(
        "grep", "-e", "is there a circle?", "-e", "is there a square?", picture, "--json", *BUILTIN
    )
    first, second = (json.loads(line) for line in out.splitlines())

    assert (first["statement"], second["statement"]) == ("is there a circle?", "is there a square?")
    assert first["match"] and first["probability"] > 0.5 > second["probability"]
    assert "cached_tokens" not in first and second["cached_tokens"] >= second["image_tokens"]
    assert 0.9 < first["yes"] + first["no"] <= 1


def test_a_question_that_it_cannot_answer_is_warned_of_once(run: Run, tmp_path: Path) -> None:
    a, b = (
        scene(tmp_path / name, [("circle", "red", (224, 224), 150)]) for name in ("a.png", "b.png")
    )
    _, _, err = run("grep", "what is the weather like?", a, b, *BUILTIN)

    assert err.count("neither yes nor no") == 1 and err.startswith(f"vlm: warning: {a}: ")
