"""Pictures to measure with: never the same one twice, so that nothing of it is remembered."""

from pathlib import Path

import numpy as np
from PIL import Image

from vlmcli import messages

PHOTO = (300, 500)
"""(width, height) in pixels."""


def pixels(seed: int, size: tuple[int, int] = PHOTO) -> Image.Image:
    """Soft blobs of colour, which a JPEG of a photo is nearest to."""
    rough = np.random.default_rng(seed).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)


def photo(path: Path, seed: int, size: tuple[int, int] = PHOTO) -> str:
    """A JPEG; returns its path."""
    pixels(seed, size).save(path, quality=90)
    return str(path)


def image(seed: int, size: tuple[int, int] = PHOTO) -> messages.Image:
    """As a command would hand it to a model."""
    return messages.Image(f"{seed}.jpg", pixels(seed, size), f"{seed:064x}")
