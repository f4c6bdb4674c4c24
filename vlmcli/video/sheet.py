"""A contact sheet: the frames of clips side by side in one picture, each with words under it."""

import math
from collections.abc import Sequence
from statistics import median

import PIL.Image
from PIL import ImageDraw, ImageFont

_BACKGROUND, _INK = (24, 24, 26), (222, 222, 222)
_GAP = 6  # pixels between cells, and around them all
_NARROWEST = 64  # pixels of a cell: in fewer, no time can be read
_SMALLEST_FONT = 13  # below it, the space between a name and a time is lost
# Shapes are width to height. A frame that is narrower or wider than any cell gets bars.
_NARROWEST_SHAPE, _WIDEST_SHAPE = 0.5, 3.0
_SHEET_SHAPE, _LEAST_SHEET_SHAPE = 4 / 3, 1.2  # what is aimed at, and what will do

_Font = ImageFont.FreeTypeFont


def contact_sheet(
    frames: Sequence[tuple[str, PIL.Image.Image]], *, width: int = 1280
) -> PIL.Image.Image:
    """The frames in the order they come, row by row, with their labels under them.

    `frames` are (label, picture), at least one. The sheet is `width` pixels wide, RGB. All cells
    are of one size; a picture keeps its shape and stands on the lower edge of its cell.
    """
    usual_shape = median(frame.width / frame.height for _, frame in frames)
    shape = min(max(usual_shape, _NARROWEST_SHAPE), _WIDEST_SHAPE)
    columns = _columns(len(frames), shape, max(1, (width - _GAP) // (_NARROWEST + _GAP)))
    cell_width = max(1, (width - _GAP) // columns - _GAP)
    cell_height = max(1, round(cell_width / shape))
    font = _font(min(max(_SMALLEST_FONT, cell_width // 16), 24))
    words_height = sum(font.getmetrics()) + 4
    step = cell_width + _GAP, cell_height + words_height + _GAP
    rows = math.ceil(len(frames) / columns)
    sheet = PIL.Image.new("RGB", (width, rows * step[1] + _GAP), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    margin = (width - columns * step[0] + _GAP) // 2
    for place, (label, frame) in enumerate(frames):
        left, top = margin + place % columns * step[0], _GAP + place // columns * step[1]
        small = _fitted(frame, cell_width, cell_height)
        middle, bottom = left + cell_width // 2, top + cell_height
        sheet.paste(small, (middle - small.width // 2, bottom - small.height))
        words = _shortened(label, font, cell_width - _GAP)
        draw.text((middle, bottom + 2), words, fill=_INK, font=font, anchor="ma")
    return sheet


def _columns(count: int, shape: float, most: int) -> int:
    """Into how many columns cells of that shape go: a sheet of a good shape with few empty cells.

    Where no sheet is wide enough, the cells go into one row.
    """
    options = []
    for columns in range(1, min(count, most) + 1):
        rows = math.ceil(count / columns)
        sheet_shape = shape * columns / rows
        if sheet_shape >= _LEAST_SHEET_SHAPE:
            empty = columns * rows / count - 1
            options.append((abs(math.log(sheet_shape / _SHEET_SHAPE)) + 4 * empty, columns))
    return min(options)[1] if options else min(count, most)


def _fitted(frame: PIL.Image.Image, width: int, height: int) -> PIL.Image.Image:
    scale = min(width / frame.width, height / frame.height)
    size = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    return frame.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)


def _shortened(label: str, font: _Font, width: int) -> str:
    """The label, its middle left out if it is too wide: both the name and the time matter."""
    words = "".join(c if c.isprintable() else " " for c in label)
    if font.getlength(words) <= width:
        return words
    fits, too_many = 0, len(words)  # characters that are kept
    while too_many - fits > 1:
        kept = (fits + too_many) // 2
        if font.getlength(_without_middle(words, kept)) <= width:
            fits = kept
        else:
            too_many = kept
    return _without_middle(words, fits)


def _without_middle(words: str, kept: int) -> str:
    head = kept // 2
    return f"{words[:head].rstrip()}…{words[len(words) - (kept - head) :].lstrip()}"


def _font(size: int) -> _Font:
    font = ImageFont.load_default(size)
    assert isinstance(font, _Font)  # of a size, it is
    return font
