"""Pictures and questions that the model is not made for, which it is to decline."""

from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vlmcli import wording
from vlmcli.builtin import fonts
from vlmcli.builtin.drawing import COLOR_NAMES, SIDE, Canvas, Picture, draws
from vlmcli.builtin.fonts import Face
from vlmcli.builtin.words import asked, word

# About a picture of a known kind: what it cannot tell of it.
QUESTIONS = (
    "who made this|where was this taken|is there a cat|is there a dog|how many people are there"
    "|what is the weather like|what time is it|who is this|is this real|what brand is it"
    "|what is the average|what is the sum of all values|what is the trend|how old is it"
    "|what is the capital of France|write a poem|translate this to German|what is 2 + 2|hello|hi"
    "|is there a person|what animal is this|what is the man doing|which city is this|why"
    "|how much does it cost|what will happen next|is it safe|tell me a joke|who are you|explain"
    "|what is the person wearing|where is the car|what is the mood|what season is it|how deep is it"
    "|what breed is the dog|is the man happy|what food is this|what is the recipe|solve it"
    "|what country is this|when was this made|which artist painted this|what sport is this"
    "|is there a bicycle|how many cats|how many cars are there|what is behind the tree"
    "|is it day or night"
)
ABOUT_ANYTHING = (
    "is there a {}|where is the {}|how many {}s are there|what color is the {}|is the {} open"
    "|who owns the {}|what is next to the {}|is that a {}|what kind of {} is this|find the {}"
    "|how old is the {}|can you see a {}|is there any {} here|which {} is this|why is the {} here"
    "|what does the {} mean|is it a {} or a {}|what is the {} doing|tell me about the {}"
)
ABOUT_TWO_THINGS = (
    "what {} is this|what {} is that|which {} did this|what {} was this|what {} do you like"
    "|what is on the {}|what is under the {}|what is inside the {}|what is the {}'s {}"
    "|who {} the {}|who is the {}|who {} it|where did the {} go|where can one {} it"
    "|when did the {} {}|when was the {} made|why does the {} {}|why is it {}"
    "|how {} is the {}|how {} is it|how do I {} it|how far is the {}|how did the {} {}"
    "|is the {} {}|are the {}s {}|does the {} {}|can the {} {}|has the {} a {}|was the {} {}"
    "|should I {} the {}|does it have a {}|is this {}|is it {} or {}|what would the {} think"
    "|what did the {} {}|how many {}s|how many {}s do you see|count the {}s|is there some {}"
    "|name the {}|{} the {}|give me a {}|what is the {} of this|what is the {} {}|calculate the {}"
)
"""With a word for each {}, and so about what nobody knows."""
QUESTIONS_HELD_OUT = (
    "is there a horse|how many birds are there|what is the median|who won the game"
    "|what kind of tree is that|is the woman smiling|which language is this"
    "|how tall is the building"
    "|what is the standard deviation|what does the doctor say|is there a boat|what is in the bowl"
    "|what year was this painted|where can I buy this|what song is this|is the road wet"
)
_KNOWN = (
    "bar",
    "sign",
    "label",
    "sum",
    "big",
    "small",
    "large",
    "name",
    "left",
    "right",
    *COLOR_NAMES,
)
JAPANESE = (
    "これは何ですか|誰ですか|天気はどうですか|平均はいくつですか|何が見えますか|この人は誰ですか"
)
STORY = (wording.CAPTION_STYLES["story"], "tell me a story", "write a story about this picture")


def question(rng: Random, *, held_out: bool = False) -> str:
    """Outside of what the model knows, whatever the picture."""
    kind = rng.random()
    if held_out:
        return asked(rng, QUESTIONS_HELD_OUT)
    if kind < 0.1:
        return rng.choice(STORY)
    if kind < 0.2:
        return asked(rng, JAPANESE)
    if kind < 0.4:
        return asked(rng, ABOUT_ANYTHING).replace("{}", _thing(rng))
    if kind < 0.7:
        start, *rest = asked(rng, ABOUT_TWO_THINGS).split("{}")
        return start + "".join(f"{_thing(rng)}{part}" for part in rest)
    return asked(rng, QUESTIONS)


def _thing(rng: Random) -> str:
    """A word for something that is none of what the known pictures hold."""
    while (name := word(rng).lower()) in _KNOWN:
        pass
    return name


def draw(rng: Random, faces: list[Face], *, held_out: bool = False) -> Picture:
    """A picture of none of the known kinds."""
    if not draws():
        return Canvas.blank((SIDE, SIDE), (0, 0, 0)).picture(rng)
    noise = np.random.default_rng(rng.getrandbits(32))
    if held_out:
        made = rng.choice((_clouds, _rings, _photo, _screen, _blank, _tiling))(rng, noise, faces)
    else:
        kinds = (_clouds, _gradient, _static, _photo, _photo, _blobs, _screen, _blank, _strokes)
        made = rng.choice(kinds)(rng, noise, faces)
    canvas = Canvas(made.convert("RGB"), Image.new("L", made.size, 0))
    return canvas.picture(rng)


def _pick(rng: Random) -> tuple[int, int, int]:
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


def _octaves(noise: np.random.Generator, side: int, start: int, fade: float) -> np.ndarray:
    """Noise with less and less of each finer grain, from 0 to 1, as nature has it."""
    total = np.zeros((side, side), np.float32)
    weight, grain = 1.0, start
    while grain <= side:
        layer = Image.fromarray(noise.random((grain, grain), np.float32))
        total += weight * np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC))
        weight, grain = weight * fade, grain * 2
    total -= total.min()
    return np.asarray(total / max(float(total.max()), 1e-6))


def _clouds(rng: Random, noise: np.random.Generator, _faces: list[Face]) -> Image.Image:
    field = _octaves(noise, 320, rng.choice((2, 3, 4, 8)), rng.uniform(0.35, 0.8))[..., None]
    low, high = np.array(_pick(rng)), np.array(_pick(rng))
    return Image.fromarray((low + (high - low) * field).astype(np.uint8))


def _gradient(rng: Random, noise: np.random.Generator, _faces: list[Face]) -> Image.Image:
    corners = noise.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    return Image.fromarray(corners).resize((320, 320), rng.choice((2, 3)))


def _static(rng: Random, noise: np.random.Generator, _faces: list[Face]) -> Image.Image:
    grain = rng.choice((4, 8, 16, 40, 80, 160, 320))
    depth = rng.choice((1, 3))
    dots = noise.integers(0, 256, (grain, grain, depth)).astype(np.uint8)
    return Image.fromarray(dots.repeat(3 // depth, axis=2)).resize((320, 320), rng.choice((0, 2)))


def _photo(rng: Random, noise: np.random.Generator, faces: list[Face]) -> Image.Image:
    """Sky, ground and soft bodies with light and shade: natural in its statistics."""
    image = _clouds(rng, noise, faces)
    line = rng.randrange(100, 240)
    image.paste(_clouds(rng, noise, faces).crop((0, 0, 320, 320 - line)), (0, line))
    for _ in range(rng.randrange(1, 9)):
        mask = Image.new("L", (320, 320), 0)
        x, y, across = rng.randrange(320), rng.randrange(320), rng.randrange(20, 160)
        down = across * rng.uniform(0.4, 2.5)
        ImageDraw.Draw(mask).ellipse(
            (x - across / 2, y - down / 2, x + across / 2, y + down / 2), 255
        )
        mask = mask.filter(ImageFilter.GaussianBlur(rng.uniform(2, 14)))
        grain = Image.fromarray((_octaves(noise, 320, 4, 0.7) * 255).astype(np.uint8))
        mask = Image.fromarray(np.asarray(mask) * (np.asarray(grain) > 90))
        image.paste(_clouds(rng, noise, faces), (0, 0), mask.filter(ImageFilter.GaussianBlur(1.2)))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2.5)))


def _blobs(rng: Random, noise: np.random.Generator, faces: list[Face]) -> Image.Image:
    image = Image.new("RGB", (320, 320), _pick(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randrange(3, 40)):
        x, y, reach = rng.randrange(320), rng.randrange(320), rng.randrange(5, 90)
        points = [
            (x + rng.randint(-reach, reach), y + rng.randint(-reach, reach)) for _ in range(7)
        ]
        draw.polygon(points, fill=_pick(rng))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 5)))


def _strokes(rng: Random, noise: np.random.Generator, faces: list[Face]) -> Image.Image:
    image = Image.new("RGB", (320, 320), _pick(rng))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randrange(4, 60)):
        points = [(rng.randrange(320), rng.randrange(320)) for _ in range(rng.randrange(2, 5))]
        draw.line(points, fill=_pick(rng), width=rng.randrange(1, 12), joint="curve")
    return image


def _rings(rng: Random, noise: np.random.Generator, faces: list[Face]) -> Image.Image:
    y, x = np.mgrid[0:320, 0:320]
    waves = np.sin(np.hypot(x - rng.randrange(320), y - rng.randrange(320)) / rng.uniform(2, 20))
    low, high = np.array(_pick(rng)), np.array(_pick(rng))
    return Image.fromarray((low + (high - low) * (waves[..., None] / 2 + 0.5)).astype(np.uint8))


def _tiling(rng: Random, noise: np.random.Generator, faces: list[Face]) -> Image.Image:
    side = rng.choice((8, 16, 32, 40))
    tile = np.asarray(_clouds(rng, noise, faces).resize((side, side)))
    return Image.fromarray(np.tile(tile, (320 // side + 1, 320 // side + 1, 1))[:320, :320])


def _blank(rng: Random, noise: np.random.Generator, _faces: list[Face]) -> Image.Image:
    if rng.random() < 0.5:
        return Image.new("RGB", (320, 320), (255, 255, 255))
    return Image.new("RGB", (320, 320), _pick(rng))


def _screen(rng: Random, noise: np.random.Generator, faces: list[Face]) -> Image.Image:
    """A window with a bar, a list beside, and lines of print in several columns."""
    width, height = 640, 480
    image = Image.new("RGB", (width, height), (rng.randrange(220, 256),) * 3)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width, rng.randrange(20, 60)), fill=_pick(rng))
    edge = rng.randrange(80, 220)
    draw.rectangle((0, 60, edge, height), fill=_pick(rng))
    face, size_px = rng.choice(faces), rng.randrange(11, 18)
    loaded = fonts.font(face, size_px)
    for column in (10, edge + 20, rng.randrange(edge + 120, 560)):
        y = float(rng.randrange(70, 120))
        while y < height:
            row = " ".join(word(rng) for _ in range(rng.randrange(1, 6)))
            draw.text(
                (column, y),
                row,
                fill=_pick(rng) if rng.random() < 0.2 else (30, 30, 30),
                font=loaded,
            )
            y += size_px * rng.uniform(1.3, 2.6)
    for _ in range(rng.randrange(0, 5)):
        x, y = rng.randrange(edge, width), rng.randrange(60, height)
        draw.rounded_rectangle(
            (x, y, x + rng.randrange(30, 140), y + rng.randrange(15, 60)), 5, _pick(rng)
        )
    return image
