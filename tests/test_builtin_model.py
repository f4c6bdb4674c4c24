"""The model that ships inside, asked at the front door about pictures that are drawn here."""

import json
import os
import socket
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from conftest import DATA, Run
from PIL import Image, ImageDraw, ImageFont

from vlmcli.builtin.tokens import CANNOT_TELL

CHART = DATA / "chart.png"
BUILTIN = ("-m", "builtin")
Bar = tuple[str, int, str]
Shape = tuple[str, str, tuple[int, int], int]  # name, colour, middle, size across


def canvas(size: tuple[int, int] = (448, 448)) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", size, "white")
    return image, ImageDraw.Draw(image)


def saved(image: Image.Image, path: Path) -> Path:
    image.save(path)
    return path


def chart(path: Path, bars: Sequence[Bar]) -> Path:
    """Bars with their values above and their labels below, as anybody would draw them."""
    image, draw = canvas()
    font, step = ImageFont.load_default(26), 400 / len(bars)
    tallest = max(value for _, value, _ in bars)
    for i, (label, value, color) in enumerate(bars):
        middle, top = 24 + step * (i + 0.5), 390 - 300 * value / tallest
        draw.rectangle((middle - step * 0.3, top, middle + step * 0.3, 390), color)
        draw.text((middle, top - 18), str(value), "black", font, "mm")
        draw.text((middle, 412), label, "black", font, "mm")
    draw.line((24, 390, 424, 390), "black", 2)
    return saved(image, path)


def scene(path: Path, shapes: Sequence[Shape]) -> Path:
    image, draw = canvas()
    for name, color, (x, y), size in shapes:
        box = (x - size // 2, y - size // 2, x + size // 2, y + size // 2)
        if name == "circle":
            draw.ellipse(box, color)
        elif name == "square":
            draw.rectangle(box, color)
        else:
            draw.polygon([(x, box[1]), (box[2], box[3]), (box[0], box[3])], color)
    return saved(image, path)


def sign(path: Path, words: str, ground: str = "white", ink: str = "black") -> Path:
    image = Image.new("RGB", (480, 240), ground)
    font = ImageFont.load_default(64)
    ImageDraw.Draw(image).text((240, 120), words, ink, font, "mm")
    return saved(image, path)


def asked(run: Run, *arguments: object) -> str:
    code, out, err = run("ask", *arguments, *BUILTIN)
    assert (code, err) == (0, ""), err
    return out.removesuffix("\n")


# What it knows


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("highest bar?", "C"),
        ("which bar is tallest", "C"),
        ("max?", "C"),
        ("LOWEST BAR?", "A"),
        ("what is the highest value?", "42"),
        ("how many bars are there", "4"),
        ("棒グラフの最高値は何ですか？", "42"),
        ("what is the value of B?", "31"),
    ],
)
def test_the_chart_of_the_readme_is_answered(run: Run, question: str, answer: str) -> None:
    assert asked(run, CHART, question) == answer


def test_a_chart_is_captioned_in_one_sentence(run: Run) -> None:
    code, out, err = run("caption", CHART, *BUILTIN)
    assert (code, err) == (0, "")
    assert out == "A bar chart with four bars; the highest is C with 42.\n"


def test_charts_drawn_otherwise_are_answered_too(run: Run, tmp_path: Path) -> None:
    three = chart(tmp_path / "3.png", [("X", 7, "teal"), ("Y", 25, "gold"), ("Z", 16, "navy")])
    two = chart(tmp_path / "2.png", [("K", 80, "brown"), ("M", 35, "olive")])
    assert asked(run, three, "which bar is the highest?") == "Y"
    assert asked(run, three, "how many bars?") == "3"
    assert asked(run, two, "highest bar?") == "K"
    assert asked(run, two, "lowest value?") == "35"


def test_shapes_are_named_and_counted(run: Run, tmp_path: Path) -> None:
    shapes = [("circle", "red", (120, 110), 130), ("square", "blue", (320, 310), 180)]
    picture = scene(tmp_path / "shapes.png", shapes)
    assert asked(run, picture, "how many shapes are there?") == "2"
    assert asked(run, picture, "what color is the circle?") == "red"
    assert asked(run, picture, "what color is the square?") == "blue"
    assert asked(run, picture, "is there a triangle?") == "no"
    assert asked(run, picture, "is the circle left or right of the square?") == "left"
    code, out, _ = run("caption", picture, *BUILTIN)
    assert (code, out) == (0, "A red circle and a blue square.\n")


@pytest.mark.parametrize(("words", "ground", "ink"), [("SALE", "red", "white"),
                                                      ("Open", "white", "black"),
                                                      ("1742", "navy", "white")])  # fmt: skip
def test_a_sign_is_read(run: Run, tmp_path: Path, words: str, ground: str, ink: str) -> None:
    picture = sign(tmp_path / "sign.png", words, ground, ink)
    assert asked(run, picture, "what does it say?") == words


def test_two_pictures_are_compared(run: Run, tmp_path: Path) -> None:
    before = scene(tmp_path / "before.png", [("circle", "red", (224, 224), 150)])
    after = scene(tmp_path / "after.png", [("circle", "blue", (224, 224), 150)])
    answer = asked(run, before, after, "what changed?")
    assert answer == "The circle changed from red to blue."


def test_the_way_of_a_shape_is_seen_in_a_clip(run: Run, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    with av.open(clip, "w") as container:
        stream: Any = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 320
        stream.pix_fmt = "yuv420p"
        for i in range(21):
            image, draw = canvas((320, 320))
            draw.ellipse((20 + 10 * i, 120, 100 + 10 * i, 200), "red")
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())
    question = "which way does the circle move?"
    code, out, err = run("video", clip, question, "--max-frames", "4", *BUILTIN)
    assert (code, out) == (0, "right\n"), err


# What it does not know


def noise(path: Path) -> Path:
    pixels = np.random.default_rng(3).integers(0, 256, (240, 320, 3), np.uint8)
    return saved(Image.fromarray(pixels), path)


@pytest.mark.parametrize("question", ["what is this?", "who is this man?", "highest bar?"])
def test_what_it_was_not_made_for_gets_one_honest_sentence(
    run: Run, tmp_path: Path, question: str
) -> None:
    assert asked(run, noise(tmp_path / "noise.png"), question) == CANNOT_TELL
    assert "-m smolvlm" in CANNOT_TELL  # which command brings one that can


def test_a_question_beside_the_point_is_declined_whatever_the_picture(run: Run) -> None:
    assert asked(run, CHART, "what is the weather like?") == CANNOT_TELL


# At once, with no network


def test_without_a_model_in_the_cache_and_without_network_it_answers_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*_: object, **__: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", no_socket)
    monkeypatch.setattr(socket, "create_connection", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    code, out, err = run("ask", CHART, "highest bar?", "--offline", "--json")
    assert code == 0, err
    record = json.loads(out)
    assert (record["text"], record["model"]) == ("C", "builtin")
    assert "the small built-in model answers" in err and err.count("\n") == 1


@pytest.mark.slow
def test_the_wheel_holds_the_model_and_works_where_the_checkout_is_not(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 20e6
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert "vlmcli/builtin/model.safetensors" in names
    assert "vlmcli/builtin/heads.pt" not in names
    assert any(name.endswith(".data/data/share/man/man1/vlm.1") for name in names)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Another copy of every file, which is not to be counted among those that the tests cover.
    kept = {name: text for name, text in os.environ.items() if not name.startswith("COV")}
    environment = kept | {"PYTHONPATH": str(tmp_path / "installed"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "vlmcli", "ask", str(CHART), "highest bar?"]
    done = subprocess.run(
        command, cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "C\n"), done.stderr
    where = [sys.executable, "-c", "import vlmcli; print(vlmcli.__file__)"]
    found = subprocess.check_output(where, cwd=elsewhere, env=environment, text=True)
    assert found.startswith(str(tmp_path / "installed"))
