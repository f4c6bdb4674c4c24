"""Printed words: signs and labels, and the question of what they say."""

from random import Random

from vlmcli import wording
from vlmcli.builtin import fonts
from vlmcli.builtin.drawing import LEAST_PRINT, SIDE, Canvas, Picture, readable_on, readable_pair
from vlmcli.builtin.fonts import Face
from vlmcli.builtin.words import asked, cased, number, read, word

SAYS = (
    "what does it say|what does the sign say|what is written|what is written here|read this|read it"
    "|what text is in the image|text|what does this say|what's written on the sign|read the text"
    "|read the sign|what word is this|what is the text|transcribe|ocr|which words are there"
    "|what is printed|what does the label say|which word is shown|transcribe the text|say the words"
    "|what number is this|what words do you see|extract the text|what's it say"
)
CAPTION = (
    *(wording.CAPTION_STYLES[style] for style in ("short", "detailed", "alt")),
    "describe this image",
    "describe the picture",
    "caption this",
    "what is this?",
    "what is in the picture?",
)


def lines(rng: Random, level: float, *, held_out: bool = False) -> list[str]:
    """One to four words or numbers, on one to four lines."""
    count = rng.choice((1, 1, 1, 2, 2, 3, 4)) if level > 0.25 * rng.random() else 1
    said = [
        number(rng) if rng.random() < 0.2 else word(rng, held_out=held_out) for _ in range(count)
    ]
    if rng.random() < 0.5:  # one case for all, as signs mostly have it
        change = rng.choice((str.upper, str.capitalize))
        said = [change(part) for part in said]
    rows: list[str] = []
    for part in said:
        if rows and len(rows[-1]) + len(part) < 14 and rng.random() < 0.5:
            rows[-1] += f" {part}"
        else:
            rows.append(part)
    return rows


def paragraph(rng: Random) -> list[str]:
    """Two to eight lines of words and numbers."""
    rows = []
    for _ in range(rng.randrange(2, 9)):
        row = word(rng)
        for _ in range(rng.randrange(0, 4)):
            more = number(rng) if rng.random() < 0.25 else word(rng)
            row = f"{row} {more}" if len(row) + len(more) < 20 else row
        rows.append(row)
    return rows


def draw(rng: Random, faces: list[Face], level: float, rows: list[str]) -> Picture:
    size = (320, 320)
    if rng.random() < level:
        size = (rng.randrange(200, 720), rng.randrange(160, 560))
    ground, ink = readable_pair(rng)
    canvas = Canvas.blank(size, ground)
    face = rng.choice(faces)
    longest = max(fonts.font(face, 100).getlength(row) for row in rows) / 100
    most = min(size[0] * 0.94 / longest, size[1] * 0.9 / (1.3 * len(rows)))
    least = LEAST_PRINT * max(size) / SIDE
    share = rng.uniform(0.3, 1.0) if rng.random() < level else rng.uniform(0.75, 1.0)
    size_px = max(7, int(min(most, max(least, most * share))))
    step = size_px * rng.uniform(1.1, 1.3)
    wide, tall = longest * size_px, step * len(rows)
    x = (
        rng.uniform(0.03, 0.97) * max(0, size[0] - wide)
        if rng.random() < 0.5
        else (size[0] - wide) / 2
    )
    y = (
        rng.uniform(0.05, 0.95) * max(0, size[1] - tall)
        if rng.random() < 0.5
        else (size[1] - tall) / 2
    )
    if rng.random() < 0.35:
        _plate(canvas, rng, (x, y, x + wide, y + tall), size_px)
        ink = readable_on(rng, canvas.image.getpixel((int(x + wide / 2), int(y + 1))))  # type: ignore[arg-type]
    middle = rng.random() < 0.7
    for i, row in enumerate(rows):
        at = (x, y + step * (i + 0.5))
        above = f"{rows[i - 1]} " if i else ""
        if middle:
            canvas.centered((x + wide / 2, at[1]), row, face, size_px, ink, after=above)
        else:
            canvas.text(at, row, face, size_px, ink, after=above)
    if rng.random() < 0.35 * level:
        canvas.turned(rng.uniform(-1.5, 1.5), rng.uniform(-0.12, 0.12), ground)
    return canvas.picture(rng, wear=rng.random() < level)


def _plate(
    canvas: Canvas, rng: Random, box: tuple[float, float, float, float], size_px: int
) -> None:
    """A board under the words, with or without an edge."""
    ground, edge = readable_pair(rng)
    room = size_px * rng.uniform(0.15, 0.5)
    left, top, right, bottom = box
    canvas.draw.rounded_rectangle(
        (left - room, top - room, right + room, bottom + room),
        radius=rng.choice((0, 0, size_px * 0.3)),
        fill=ground,
        outline=edge if rng.random() < 0.5 else ground,
        width=rng.choice((1, 2, 4)),
    )


def caption(rows: list[str]) -> str:
    return f'A sign that says "{read(" ".join(rows))}".'


def pairs(rng: Random, rows: list[str], count: int) -> list[tuple[str, str]]:
    said = read(" ".join(rows))
    found = [(cased(rng, asked(rng, SAYS)), said) for _ in range(max(1, count - 1))]
    return [*found, (rng.choice(CAPTION), caption(rows))][:count]
