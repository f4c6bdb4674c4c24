"""Pictures to measure with: never the same one twice, so that nothing of it is remembered."""

from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw

from vlmcli import messages

PHOTO = (300, 500)
"""(width, height) in pixels."""


def pixels(seed: int, size: tuple[int, int] = PHOTO) -> Image.Image:
    """Soft blobs of colour, which a JPEG of a photo is nearest to."""
    rough = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def shapes(seed: int, size: tuple[int, int]) -> Image.Image:
    """Two coloured shapes, of which there is something to say."""
    rng = Random(seed)
    drawn = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(drawn)
    for draw, left in ((pen.ellipse, 0.08), (pen.rectangle, 0.55)):
        x, y = int(left * size[0]), rng.randrange(size[1] // 2)
        side = size[0] // 4 + rng.randrange(size[0] // 8)
        draw((x, y, x + side, y + side), fill=rng.choice(("red", "blue", "green", "orange")))
    return drawn


def photo(path: Path, seed: int, size: tuple[int, int] = PHOTO) -> str:
    """A JPEG; returns its path."""
    pixels(seed, size).save(path, quality=90)
    return str(path)


def image(seed: int, drawn: Image.Image | None = None) -> messages.Image:
    """As a command would hand it to a model: a photo, or what was drawn."""
    return messages.Image(f"{seed}.jpg", drawn or pixels(seed), f"{seed:064x}")
