"""The ways in which processors come from a picture to what a model sees, each known by its
parameters: what size a picture is given in, so that it is not enlarged on the way.

A size is (width, height) in pixels. `pixels` is how many of them the model may see at most.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Size = tuple[int, int]

ROUNDING = 1.07
"""How far a side may be stretched or squeezed for it to fill whole tiles: 1920 pixels are four of
512."""

_MOST_TILES_A_SIDE = 16
"""The tokenizers of tiling families have no more names of rows and columns."""
_SOFT_TOKENS = (70, 140, 280, 560, 1120)
"""Gemma's budgets; its processor takes no others."""


class Way(Protocol):
    """How a processor looks at pictures."""

    def low(self, size: Size, pixels: float) -> Size:
        """The cheapest sensible view."""

    def own(self, size: Size, pixels: float, *, all_of_them: bool) -> Size:
        """With the picture's own pixels: as many tiles as they fill, or as it takes to hold
        `all_of_them`."""

    def shipped(self, size: Size) -> Size:
        """As the processor does it by itself, once it has been given `options`."""

    def options(self, sizes: Sequence[Size]) -> dict[str, Any]:
        """What the processor is told to let pictures of these sizes as they are."""


def _area_of(size: Size) -> int:
    return size[0] * size[1]


def shrunk(size: Size, pixels: float, unit: int = 1) -> Size:
    """The size, brought down to so many pixels where it has more; sides are multiples of `unit`."""
    share = math.sqrt(pixels / _area_of(size))
    if share >= 1:
        return size
    width, height = (max(1, math.floor(side * share / unit)) * unit for side in size)
    return width, height


def inside(size: Size, bounds: Size) -> Size:
    """The size, brought down to fit into `bounds` where it does not."""
    share = min(1, bounds[0] / size[0], bounds[1] / size[1])
    return max(1, int(size[0] * share)), max(1, int(size[1] * share))


def grid(size: Size, tile: Size, counts: range, *, sides: Size, all_of_them: bool) -> Size | None:
    """The columns and rows of tiles that keep most of a picture, of `counts` tiles in all.

    Tiles that the picture does not fill are left out, unless `all_of_them` is to be kept. `sides`
    are the most columns and rows. None if no grid has one of the `counts`.
    """
    spans = [side / edge for side, edge in zip(size, tile, strict=True)]
    most = [
        max(1, math.ceil(span / ROUNDING) if all_of_them else math.floor(span * ROUNDING))
        for span in spans
    ]
    columns, rows = (min(one, bound) for one, bound in zip(most, sides, strict=True))
    grids = [(c, r) for c in range(1, columns + 1) for r in range(1, rows + 1) if c * r in counts]

    def kept(one: Size) -> float:
        return min(one[0] / spans[0], one[1] / spans[1], 1 / ROUNDING)

    return max(grids, key=lambda one: (kept(one), -one[0] * one[1]), default=None)


@dataclass(frozen=True, slots=True)
class Tiles:
    """Square tiles, and the whole picture as one more (Idefics3, SmolVLM).

    By itself the processor first makes the longer side `longest` pixels long, and then both sides
    whole tiles.
    """

    edge: int
    longest: int
    most: int

    def low(self, size: Size, pixels: float) -> Size:
        return self.edge, self.edge

    def own(self, size: Size, pixels: float, *, all_of_them: bool) -> Size:
        theirs = self._grid(self.shipped(size))
        counts = range(1, max(1, int(min(self.most, pixels / self.edge**2))) + 1)
        tile = (self.edge, self.edge)
        found = grid(size, tile, counts, sides=theirs, all_of_them=all_of_them) or (1, 1)
        if found == theirs and max(size) >= self.longest:
            return self.shipped(size)
        return found[0] * self.edge, found[1] * self.edge

    def shipped(self, size: Size) -> Size:
        """As in `_resize_output_size_rescale_to_max_len` of these processors."""
        width, height = size
        aspect = width / height
        if width >= height:
            short = int(self.longest / aspect)
            return self.longest, max(1, short + short % 2)
        short = int(self.longest * aspect)
        return max(1, short + short % 2), self.longest

    def _grid(self, size: Size) -> Size:
        """As in `resize_for_vision_encoder` of these processors."""
        width, height = size
        aspect = width / height
        if width >= height:
            columns = math.ceil(width / self.edge)
            return columns, math.ceil(int(columns * self.edge / aspect) / self.edge)
        rows = math.ceil(height / self.edge)
        return math.ceil(int(rows * self.edge * aspect) / self.edge), rows

    def options(self, sizes: Sequence[Size]) -> dict[str, Any]:
        return {"do_resize": False}


@dataclass(frozen=True, slots=True)
class Crops:
    """The grid of tiles whose shape is nearest to the picture's (InternVL, Granite Docling, LFM2).

    A picture that has the very size of a grid gets this grid. Up to `single` pixels it is one view
    whatever its shape. `counted` tells how many tiles the processor makes of (width, height); None
    where it does not say.
    """

    tile: Size
    counts: range
    single: float
    counted: Callable[[int, int], int] | None

    def low(self, size: Size, pixels: float) -> Size:
        return shrunk(size, self._one) if self.single else self._whole(size)

    def own(self, size: Size, pixels: float, *, all_of_them: bool) -> Size:
        if self.single and (_area_of(size) <= self.single or pixels < 2 * self._one):
            return shrunk(size, min(pixels, self.single))
        theirs = self.counted(*size) if self.counted else math.inf
        most = max(1, int(min(pixels / self._one, theirs, self.counts.stop - 1)))
        # Left to itself, the processor would not enlarge the picture.
        if theirs == 1 or (theirs <= most and theirs * self._one <= _area_of(size) * ROUNDING**2):
            return size
        counts = range(self.counts.start, most + 1)
        sides = (_MOST_TILES_A_SIDE, _MOST_TILES_A_SIDE)
        found = grid(size, self.tile, counts, sides=sides, all_of_them=all_of_them)
        if found is None:
            return shrunk(size, self.single) if self.single else self._whole(size)
        return found[0] * self.tile[0], found[1] * self.tile[1]

    def _whole(self, size: Size) -> Size:
        """As one view: the very tile, or what fits into it where a grid has more than one."""
        return self.tile if 1 in self.counts else inside(size, self.tile)

    @property
    def _one(self) -> int:
        return self.tile[0] * self.tile[1]

    def shipped(self, size: Size) -> Size:
        return size

    def options(self, sizes: Sequence[Size]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True)
class Canvases:
    """The smallest of some canvases that holds the picture, in tiles (LLaVA-NeXT, Llama 3.2)."""

    tile: Size

    def low(self, size: Size, pixels: float) -> Size:
        return inside(size, self.tile)

    def own(self, size: Size, pixels: float, *, all_of_them: bool) -> Size:
        return shrunk(size, pixels)

    def shipped(self, size: Size) -> Size:
        return size

    def options(self, sizes: Sequence[Size]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of tokens that every picture is enlarged or shrunk to fill (Gemma 4)."""

    unit: int
    tokens: int

    def low(self, size: Size, pixels: float) -> Size:
        return self._of(size, _SOFT_TOKENS[0])

    def own(self, size: Size, pixels: float, *, all_of_them: bool) -> Size:
        mine = math.floor(_area_of(size) * ROUNDING**2 / self.unit**2)
        # With less than the least budget a model knows only crumbs of pictures.
        return self._of(size, min(pixels / self.unit**2, max(mine, _SOFT_TOKENS[0])))

    def shipped(self, size: Size) -> Size:
        return self._of(size, self.tokens)

    def _of(self, size: Size, tokens: float) -> Size:
        """As in `get_aspect_ratio_preserving_size` of these processors."""
        tokens = max(1, min(tokens, self.tokens))
        share = math.sqrt(tokens * self.unit**2 / _area_of(size))
        columns, rows = (math.floor(side * share / self.unit) for side in size)
        columns = columns or min(1, int(tokens))
        rows = rows or min(1, int(tokens))
        if columns * rows > tokens:  # a strip: one token wide
            columns, rows = min(columns, int(tokens) // rows or 1), min(rows, int(tokens))
        return columns * self.unit, rows * self.unit

    def options(self, sizes: Sequence[Size]) -> dict[str, Any]:
        needed = max((w * h // self.unit**2 for w, h in sizes), default=0)
        fits = next((one for one in _SOFT_TOKENS if one >= needed), self.tokens)
        return {"do_resize": False, "max_soft_tokens": fits}


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches without a place in the prompt, as many as are allowed (Pix2Struct)."""

    patch: Size
    most: int

    def low(self, size: Size, pixels: float) -> Size:
        return shrunk(size, pixels)

    def own(self, size: Size, pixels: float, *, all_of_them: bool) -> Size:
        return shrunk(size, pixels)

    def shipped(self, size: Size) -> Size:
        return size

    def options(self, sizes: Sequence[Size]) -> dict[str, Any]:
        needed = [math.ceil(w / self.patch[0]) * math.ceil(h / self.patch[1]) for w, h in sizes]
        return {"max_patches": min(self.most, max(needed, default=self.most))}


@dataclass(frozen=True, slots=True)
class Area:
    """The picture in its own size, in patches of `unit` pixels and up to `most` of them (Qwen-VL,
    Pixtral, Idefics2, …).

    `splits_above` is the side from which quarters of a picture show more than the whole; None where
    there are no quarters.
    """

    unit: int = 1
    most: float = math.inf
    splits_above: int | None = None

    def low(self, size: Size, pixels: float) -> Size:
        return self._within(size, pixels)

    def own(self, size: Size, pixels: float, *, all_of_them: bool) -> Size:
        return self._within(size, pixels)

    def _within(self, size: Size, pixels: float) -> Size:
        # What the processor brings down anyway is not resampled twice.
        return size if self.most <= pixels else shrunk(size, pixels, self.unit)

    def shipped(self, size: Size) -> Size:
        return size

    def options(self, sizes: Sequence[Size]) -> dict[str, Any]:
        if self.splits_above is None:
            return {}
        return {"do_image_splitting": any(max(size) > self.splits_above for size in sizes)}
