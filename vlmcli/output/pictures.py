"""A picture on the terminal itself, in whatever way that terminal shows pictures.

Pillow and NumPy are imported only where a picture is drawn.
"""

import base64
import io
import re
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, TextIO, cast

from vlmcli.output.abilities import HALF_BLOCKS, ITERM, KITTY, SIXEL, colours, pictures
from vlmcli.output.terminal import console, write

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Pixel = tuple[int, int, int]

_KITTY_CHUNK = 4096  # bytes; https://sw.kovidgoyal.net/kitty/graphics-protocol/
_SIXEL_COLOURS = 255
_THUMBNAIL_COLUMNS, _THUMBNAIL_ROWS = 32, 8
_LONG_RUNS = re.compile(r"(.)\1{3,}")  # a count of a shorter one saves nothing


def show_picture(picture: "Picture", file: TextIO) -> bool:
    """Draw the picture on `file` if that is a terminal which shows pictures; whether it was drawn.

    A picture wider than the terminal is scaled down; none is enlarged, and a tall one scrolls.
    """
    protocol = pictures(file)
    if not protocol:
        return False
    columns, width_px = _width(file)
    picture = picture.convert("RGB")
    if protocol == HALF_BLOCKS:
        text = half_blocks(_at_most(picture, columns), colours(file))
    else:
        draw, cell_px = _DRAWN[protocol]
        text = draw(_at_most(picture, width_px or columns * cell_px))
    write(file, text)
    return True


def show_thumbnail(picture: "Picture", file: TextIO) -> bool:
    """As `show_picture`, small: a few lines high."""
    protocol = pictures(file)
    if not protocol:
        return False
    columns, width_px = _width(file)
    if protocol == HALF_BLOCKS:
        room = min(columns, _THUMBNAIL_COLUMNS), 2 * _THUMBNAIL_ROWS
    else:
        cell_px = width_px // columns if width_px else _DRAWN[protocol][1]
        cells = min(columns, _THUMBNAIL_COLUMNS)
        room = cells * cell_px, _THUMBNAIL_ROWS * 2 * cell_px  # a cell is twice as high as wide
    small = picture.convert("RGB")
    small.thumbnail(room)
    return show_picture(small, file)


def kitty(picture: "Picture") -> str:
    """The picture for a terminal that knows kitty's protocol; it is told to answer nothing."""
    data = _png(picture)
    text = base64.b64encode(data).decode()
    chunks = [text[at : at + _KITTY_CHUNK] for at in range(0, len(text), _KITTY_CHUNK)]
    keys = ["a=T,f=100,q=2,m=1", *["m=1"] * (len(chunks) - 1)]
    keys[-1] = keys[-1].replace("m=1", "m=0")
    parts = (f"\x1b_G{key};{chunk}\x1b\\" for key, chunk in zip(keys, chunks, strict=True))
    return "".join(parts) + "\n"


def iterm(picture: "Picture") -> str:
    """The picture as iTerm2 defined it: https://iterm2.com/documentation-images.html"""
    data = _png(picture)
    options = f"inline=1;size={len(data)};preserveAspectRatio=1"
    return f"\x1b]1337;File={options}:{base64.b64encode(data).decode()}\x07\n"


def sixel(picture: "Picture") -> str:
    """The picture in bands of six lines; a band is drawn once for each of its colours.

    The format is in chapter 14 of DEC's VT330/VT340 manual: https://vt100.net/docs/vt3xx-gp/
    """
    import numpy as np

    few = picture.quantize(_SIXEL_COLOURS)
    indices = np.asarray(few)  # (H, W) uint8
    percents = np.asarray(few.getpalette()).reshape(-1, 3) * 100 / 255  # (colours, 3)
    palette = [f"#{i};2;{r:.0f};{g:.0f};{b:.0f}" for i, (r, g, b) in enumerate(percents)]
    bands = []
    for top in range(0, picture.height, 6):
        band = indices[top : top + 6]
        bits = 1 << np.arange(len(band), dtype=np.uint8)[:, None]  # (6, 1): the top line is 1
        layers = []
        for colour in np.unique(band):
            dots = ((band == colour) * bits).sum(axis=0, dtype=np.uint8)  # (W,)
            layer = (dots + ord("?")).tobytes().decode().rstrip("?")
            short = _LONG_RUNS.sub(lambda run: f"!{len(run[0])}{run[1]}", layer)
            layers.append(f"#{colour}{short}")
        bands.append("$".join(layers))
    size = f'"1;1;{picture.width};{picture.height}'
    return f"\x1bP0;1q{size}{''.join(palette)}{'-'.join(bands)}\x1b\\\n"


def half_blocks(picture: "Picture", colour_system: str) -> str:
    """The RGB picture in characters, each of which shows one pixel above another.

    `colour_system` is what `abilities.colours` says.
    """
    lines = []
    for top in range(0, picture.height, 2):
        line, last = "", ""
        for column in range(picture.width):
            codes = _codes(_pixel(picture, column, top), colour_system, ink=True)
            if top + 1 < picture.height:
                below = _pixel(picture, column, top + 1)
                codes += ";" + _codes(below, colour_system, ink=False)
            line += "▀" if codes == last else f"\x1b[{codes}m▀"
            last = codes
        lines.append(f"{line}\x1b[0m\n")
    return "".join(lines)


_DRAWN = {KITTY: (kitty, 10), ITERM: (iterm, 10), SIXEL: (sixel, 8)}
"""What draws, and how many pixels a character is wide on a terminal that does not tell."""


def _pixel(picture: "Picture", column: int, row: int) -> Pixel:
    return cast(Pixel, picture.getpixel((column, row)))


@lru_cache(maxsize=1 << 16)
def _codes(pixel: Pixel, colour_system: str, *, ink: bool) -> str:
    from rich.color import Color, ColorSystem

    system = {"standard": ColorSystem.STANDARD, "256": ColorSystem.EIGHT_BIT}.get(colour_system)
    colour = Color.from_rgb(*pixel)
    fitting = colour.downgrade(system) if system else colour
    return ";".join(fitting.get_ansi_codes(foreground=ink))


def _png(picture: "Picture") -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def _at_most(picture: "Picture", width: int) -> "Picture":
    """The picture, scaled down if it is wider."""
    if picture.width <= width:
        return picture
    from PIL.Image import Resampling

    height = max(1, round(picture.height * width / picture.width))
    # Lanczos would draw a dark line around a bright frame, and in half blocks that is a wide one.
    return picture.resize((width, height), Resampling.HAMMING, reducing_gap=3.0)


def _width(file: TextIO) -> tuple[int, int]:
    """Of the terminal, in characters and in pixels; 0 pixels if it does not tell."""
    screen = console(file)
    columns = screen.width if screen else 80
    try:
        import fcntl
        import termios

        window = fcntl.ioctl(file.fileno(), termios.TIOCGWINSZ, bytes(8))
    except (ImportError, OSError):  # Windows has no such call
        return columns, 0
    _, _, width_px, _ = struct.unpack("HHHH", window)
    return columns, width_px
