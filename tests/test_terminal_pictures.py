"""A picture on a real pseudo-terminal, read back from what was sent there."""

import base64
import io
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import terminal
from PIL import Image, ImageChops, ImageColor, ImageStat

from vlmcli.output import pictures

Colour = tuple[int, ...]

FOUR = {(0, 0): "red", (1, 0): "lime", (0, 1): "blue", (1, 1): "white"}
ENVIRONMENTS = {
    "kitty": {"TERM": "xterm-kitty"},
    "iterm": {"TERM_PROGRAM": "iTerm.app"},
    "sixel": {"TERM": "foot"},
    "truecolor": {"TERM": "xterm-256color", "COLORTERM": "truecolor"},
    "256": {"TERM": "xterm-256color"},
    "standard": {"TERM": "xterm"},
    "tmux": {"TERM": "tmux-256color", "TMUX": "/tmp/tmux", "KITTY_WINDOW_ID": "1"},
}
NAMING = (
    "TERM_PROGRAM",
    "LC_TERMINAL",
    "KITTY_WINDOW_ID",
    "KONSOLE_VERSION",
    "TMUX",
    "FORCE_COLOR",
)

SCRIPT = """
import contextlib, fcntl, struct, sys, termios
from PIL import Image
from vlmcli.output import terminal
from vlmcli.output.pictures import show_picture

class Footer:
    def show(self): print(end="<bar>", flush=True)
    def hide(self): print(end="</bar>", flush=True)

picture = Image.open({file!r})
{before}
with {around}:
    shown = show_picture(picture, sys.stdout)
print("shown" if shown else "not shown")
"""


def sent(
    picture: Image.Image,
    tmp_path: Path,
    environment: Mapping[str, str],
    *,
    before: str = "",
    around: str = "contextlib.nullcontext()",
    columns: int = 80,
) -> tuple[str, str]:
    """All that reaches a terminal which is shown the picture, and the words that follow it."""
    file = str(tmp_path / "shown.png")
    picture.save(file)
    unset = [flag for name in NAMING for flag in ("-u", name)]
    script = SCRIPT.format(file=file, before=before, around=around)
    settings = [f"{name}={value}" for name, value in environment.items()]
    command = ["env", *unset, *settings, sys.executable, "-c", script]
    shell = terminal.spawn(command, columns=columns)
    assert shell.wait(60) == 0, shell.text
    found = re.fullmatch(r"(.*?)((?:not )?shown)\r\n", shell.text, re.DOTALL)
    assert found, shell.text
    return found[1], found[2]


def blocks(scale: int = 1) -> Image.Image:
    """Red and green above blue and white, each a square of `scale` pixels."""
    picture = Image.new("RGB", (2, 2))
    for place, colour in FOUR.items():
        picture.paste(colour, (*place, place[0] + 1, place[1] + 1))
    return picture.resize((2 * scale, 2 * scale), Image.Resampling.NEAREST)


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.merge("RGB", [Image.effect_noise(size, 80) for _ in range(3)])


def difference(one: Image.Image, other: Image.Image) -> int:
    """The most by which a channel of a pixel differs; the sizes must be the same."""
    assert one.size == other.size
    extremes = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getextrema()
    return max(most for _, most in extremes)  # type: ignore[misc]


# what reads it back


def from_kitty(text: str) -> tuple[Image.Image, list[str]]:
    """The picture, and the keys of each chunk."""
    found = re.findall(r"\x1b_G([^;]*);([A-Za-z0-9+/=]*)\x1b\\", text)
    assert all(len(data) <= 4096 for _, data in found)
    assert all(len(data) % 4 == 0 for _, data in found)
    png = base64.b64decode("".join(data for _, data in found), validate=True)
    return Image.open(io.BytesIO(png)), [keys for keys, _ in found]


def from_iterm(text: str) -> tuple[Image.Image, dict[str, str]]:
    found = re.fullmatch(r"\x1b\]1337;File=([^:]*):([A-Za-z0-9+/=]*)\x07\r\n", text)
    assert found, text[:200]
    png = base64.b64decode(found[2], validate=True)
    options = dict(option.split("=") for option in found[1].split(";"))
    assert int(options["size"]) == len(png)
    return Image.open(io.BytesIO(png)), options


def from_sixel(text: str) -> Image.Image:
    """As a terminal draws it; what is never drawn stays magenta."""
    found = re.fullmatch(r'\x1bP[\d;]*q"1;1;(\d+);(\d+)(.*)\x1b\\\r\n', text, re.DOTALL)
    assert found, text[:200]
    picture = Image.new("RGB", (int(found[1]), int(found[2])), "magenta")
    palette: dict[int, Colour] = {}
    colour, left, top = 0, 0, 0
    tokens = re.findall(r"#[\d;]+|!\d+[?-~]|[?-~$-]", found[3])
    assert "".join(tokens) == found[3]
    for token in tokens:
        if token.startswith("#") and ";" in token:
            number, system, *percents = map(int, token[1:].split(";"))
            assert system == 2 and all(0 <= percent <= 100 for percent in percents)
            palette[number] = tuple(round(percent * 2.55) for percent in percents)
        elif token.startswith("#"):
            colour = int(token[1:])
        elif token == "$":
            left = 0
        elif token == "-":
            left, top = 0, top + 6
        else:
            right = left + int(token[1:-1] or 1)
            for line in range(6):
                if (ord(token[-1]) - 63) >> line & 1:
                    picture.paste(palette[colour], (left, top + line, right, top + line + 1))
            left = right
    assert len(palette) <= 255
    return picture


def from_half_blocks(text: str) -> Image.Image:
    """Two pixels a character; a line whose lower ones have no colour has only upper ones."""
    rows: list[tuple[Colour, ...]] = []
    for line in text.removesuffix("\r\n").split("\r\n"):
        assert line.endswith("\x1b[0m")
        cells: list[tuple[Colour, Colour]] = []
        ink: Colour = ()
        paper: Colour = ()
        for codes, character in re.findall(r"\x1b\[([\d;]+)m|(.)", line):
            if character:
                assert character == "▀"
                cells.append((ink, paper))
            else:
                ink, paper = colours_of(codes)
        uppers, lowers = zip(*cells, strict=True)
        rows += [uppers, lowers] if all(lowers) else [uppers]
    picture = Image.new("RGB", (len(rows[0]), len(rows)))
    picture.putdata([pixel for row in rows for pixel in row])
    return picture


def colours_of(codes: str) -> tuple[Colour, Colour]:
    """The ink and the paper that a Select Graphic Rendition sets; () where it sets none."""
    ink: Colour = ()
    paper: Colour = ()
    for part in re.findall(r"[34]8;2;\d+;\d+;\d+|[34]8;5;\d+|\d+", codes):
        first, *rest = map(int, part.split(";"))
        if rest:
            colour = tuple(rest[1:]) if rest[0] == 2 else of_256(rest[1])
        else:
            colour = of_16(first % 10 + (8 if first >= 90 else 0))
        if first in (38, *range(30, 38), *range(90, 98)):
            ink = colour
        else:
            paper = colour
    return ink, paper


def of_256(number: int) -> Colour:
    if number >= 232:
        return (8 + 10 * (number - 232),) * 3
    levels = (0, 95, 135, 175, 215, 255)
    number -= 16
    return levels[number // 36], levels[number // 6 % 6], levels[number % 6]


def of_16(number: int) -> Colour:
    level = 255 if number >= 8 else 170
    return tuple(level * (number >> bit & 1) for bit in range(3))


# each kind of terminal


@pytest.mark.parametrize("scale", [1, 3, 20])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_picture_arrives_with_its_colours_in_their_places(
    tmp_path: Path, name: str, scale: int
) -> None:
    picture = blocks(scale)
    text, words = sent(picture, tmp_path, ENVIRONMENTS[name])
    assert words == "shown"
    match name:
        case "kitty":
            found = from_kitty(text)[0]
        case "iterm":
            found = from_iterm(text)[0]
        case "sixel":
            found = from_sixel(text)
        case _:
            found = from_half_blocks(text)
    # Of 16 colours, each terminal has its own idea.
    assert difference(found, picture) <= (90 if name == "standard" else 0)


def test_kitty_gets_a_large_picture_in_chunks(tmp_path: Path) -> None:
    picture = noise((120, 80))
    text, _ = sent(picture, tmp_path, ENVIRONMENTS["kitty"])
    found, keys = from_kitty(text)
    assert difference(found, picture) == 0
    assert len(keys) > 2 and keys[0] == "a=T,f=100,q=2,m=1"
    assert set(keys[1:-1]) == {"m=1"} and keys[-1] == "m=0"


def test_kitty_gets_a_small_picture_in_one(tmp_path: Path) -> None:
    _, keys = from_kitty(sent(blocks(), tmp_path, ENVIRONMENTS["kitty"])[0])
    assert keys == ["a=T,f=100,q=2,m=0"]


def test_iterm_is_told_to_show_it_and_to_keep_its_shape(tmp_path: Path) -> None:
    _, options = from_iterm(sent(blocks(), tmp_path, ENVIRONMENTS["iterm"])[0])
    assert options["inline"] == "1" and options["preserveAspectRatio"] == "1"


def test_a_photo_in_sixels_is_near_to_what_it_was(tmp_path: Path) -> None:
    gradient = Image.linear_gradient("L")
    channels = (gradient, gradient.rotate(90), Image.radial_gradient("L"))
    picture = Image.merge("RGB", channels).resize((100, 61))
    found = from_sixel(sent(picture, tmp_path, ENVIRONMENTS["sixel"])[0])
    apart = ImageStat.Stat(ImageChops.difference(found, picture)).mean
    assert max(apart) < 8


@pytest.mark.parametrize("size", [(1, 1), (3, 1), (1, 7), (5, 5)])
@pytest.mark.parametrize("name", ["sixel", "truecolor"])
def test_a_last_line_that_is_not_full_shows_no_more_than_there_is(
    tmp_path: Path, name: str, size: tuple[int, int]
) -> None:
    picture = Image.new("RGB", size, "lime")
    text, _ = sent(picture, tmp_path, ENVIRONMENTS[name])
    found = from_sixel(text) if name == "sixel" else from_half_blocks(text)
    assert difference(found, picture) == 0


def test_half_blocks_use_the_nearest_of_256_colours(tmp_path: Path) -> None:
    picture = Image.new("RGB", (2, 2), (250, 130, 10))
    text, _ = sent(picture, tmp_path, ENVIRONMENTS["256"])
    assert "8;2;" not in text
    assert difference(from_half_blocks(text), picture) <= 20


def test_a_picture_with_transparency_is_drawn_without(tmp_path: Path) -> None:
    picture = blocks(2).convert("RGBA")
    text, _ = sent(picture, tmp_path, ENVIRONMENTS["truecolor"])
    assert difference(from_half_blocks(text), blocks(2)) == 0


# its size


WIDE: dict[str, tuple[Callable[[str], Image.Image], int]] = {
    "kitty": (lambda text: from_kitty(text)[0], 400),
    "iterm": (lambda text: from_iterm(text)[0], 400),
    "sixel": (from_sixel, 320),
    "truecolor": (from_half_blocks, 40),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_wide_picture_is_scaled_to_the_columns_and_keeps_its_shape(
    tmp_path: Path, name: str
) -> None:
    picture = blocks(500).crop((0, 250, 1000, 750))
    text, _ = sent(picture, tmp_path, ENVIRONMENTS[name], columns=40)
    read, width = WIDE[name]
    found = read(text)
    assert found.size == (width, width // 2)
    corners = [found.getpixel((x, y)) for x in (1, width - 2) for y in (1, width // 2 - 2)]
    for corner, colour in zip(corners, ("red", "blue", "lime", "white"), strict=True):
        assert corner == ImageColor.getrgb(colour)


@pytest.mark.parametrize("name", ["kitty", "iterm", "sixel"])
def test_a_terminal_that_tells_its_pixels_gets_as_many(tmp_path: Path, name: str) -> None:
    tell = "fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 40, 222, 400))"
    text, _ = sent(blocks(500), tmp_path, ENVIRONMENTS[name], before=tell)
    assert WIDE[name][0](text).size == (222, 222)


def test_a_tall_picture_is_as_tall_as_it_is(tmp_path: Path) -> None:
    text, _ = sent(Image.new("RGB", (4, 200), "red"), tmp_path, ENVIRONMENTS["truecolor"])
    assert from_half_blocks(text).size == (4, 200)


def test_half_blocks_that_fill_the_line_take_one_line_each(tmp_path: Path) -> None:
    text, _ = sent(blocks(200), tmp_path, ENVIRONMENTS["256"], columns=30)
    assert terminal.screen(text, 30, 24) == ["▀" * 30] * 15


# where it cannot be shown


@pytest.mark.parametrize(
    "environment",
    [
        {"TERM": "dumb"},
        {"TERM": "dumb", "KITTY_WINDOW_ID": "1"},
        {"TERM": "xterm-kitty", "PYTHONIOENCODING": "latin-1"},
        {"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"},
    ],
)
def test_a_terminal_without_pictures_gets_nothing(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    assert sent(blocks(), tmp_path, environment) == ("", "not shown")


def test_no_colour_is_about_text_and_not_about_pictures(tmp_path: Path) -> None:
    text, words = sent(blocks(), tmp_path, {"TERM": "xterm-kitty", "NO_COLOR": "1"})
    assert words == "shown" and difference(from_kitty(text)[0], blocks()) == 0


def test_what_is_no_terminal_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    file = io.StringIO()
    assert not pictures.show_picture(blocks(), file)
    assert file.getvalue() == ""


# and beside it


def test_a_bar_that_is_being_drawn_makes_room(tmp_path: Path) -> None:
    bar = "terminal.running(Footer())"
    text, _ = sent(blocks(), tmp_path, ENVIRONMENTS["truecolor"], around=bar)
    parts = re.fullmatch(r"<bar></bar>(.*)<bar></bar>", text, re.DOTALL)
    assert parts and difference(from_half_blocks(parts[1]), blocks()) == 0


def test_neither_pillow_nor_numpy_nor_rich_is_loaded_before_a_picture_is_drawn() -> None:
    script = (
        "import io, sys; from vlmcli.output import pictures\n"
        "pictures.show_picture(None, io.StringIO())\n"
        "print({'PIL', 'numpy', 'rich'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
