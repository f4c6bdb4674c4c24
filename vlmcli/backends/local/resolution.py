"""How many pixels and tokens of a picture a model is shown.

By itself many a processor enlarges small pictures, which costs a CPU seconds and shows nothing
more. Which sizes one takes is read from its own parameters; `ways` says what they mean.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

import PIL.Image

from vlmcli.backends.local.ways import (
    Area,
    Budget,
    Canvases,
    Crops,
    Patches,
    Size,
    Tiles,
    Way,
    shrunk,
)
from vlmcli.errors import UsageError

Options = Mapping[str, Any]
Count = Callable[[Size, Options], int | None]
"""The tokens that a picture of a size takes in the prompt, its processor told some options."""

_USUAL_TILE = 512, 512
_LOW = 512 * 512
_FRAME = 448 * 448
"""Of a frame of a clip, which has many: 256 tokens or so where each pixel costs tokens."""
_CPU = 1024 * 1024
"""On a CPU each tile of 512 pixels adds a second to the first token. Four and the whole picture are
as long as people wait, and print on a page or a screen can still be read."""
_LEAST = 14 * 14
"""A patch. With less there is nothing to be seen."""

# What makes several views of a picture, where a picture may also have none of its own size.
_VARIES = ("merge_size", "max_pixels", "max_num_tiles", "max_crops", "max_slice_nums", "dynamic_hd")
_EXTRA_VIEWS = "do_pan_and_scan"
_one_at_a_time = Lock()


@dataclass(frozen=True, slots=True)
class Sight:
    """How finely pictures are to be seen: one of `details.DETAILS`, and a bound for the tokens of
    each.

    `counts` keeps what pictures of a size were found to take.
    """

    detail: str = "auto"
    max_tokens: int | None = None
    on_cpu: bool = False
    counts: dict[Any, int | None] = field(default_factory=dict, compare=False, repr=False)

    @property
    def as_shipped(self) -> bool:
        """Whether the processor is left to itself."""
        return self.detail == "max" and self.max_tokens is None

    def pixels(self, detail: str, *, frame: bool = False) -> float:
        """How many of a picture's own may be seen at most."""
        if detail == "low":
            return _FRAME if frame else _LOW
        return _CPU if detail == "auto" and self.on_cpu else math.inf


def way_of(image_processor: Any, combined: Any = None) -> Way | None:
    """How a processor looks at pictures; None if it makes all of them one size."""
    told = getattr(combined, "images_kwargs", None)
    defaults = told if isinstance(told, Mapping) else {}

    def get(name: str) -> Any:
        return defaults.get(name, getattr(image_processor, name, None))

    size, splits = get("size"), get("do_image_splitting")
    if edge := _edge(get("max_image_size"), "longest_edge"):
        return Tiles(edge, _edge(size, "longest_edge") or edge, 10_000 if splits else 1)
    if get("crop_to_patches") is not None and get("max_patches"):
        return _crops(image_processor, get) if get("crop_to_patches") else None
    if get("tile_size") and get("max_tiles"):
        unit = get("encoder_patch_size") * get("downsample_factor")
        single = get("max_image_tokens") * unit**2 * get("max_pixels_tolerance")
        counts = range(get("min_tiles"), (get("max_tiles") if splits else 1) + 1)
        return Crops((get("tile_size"),) * 2, counts, single, None)
    if get("max_soft_tokens") and get("pooling_kernel_size"):
        return Budget(get("patch_size") * get("pooling_kernel_size"), get("max_soft_tokens"))
    patch = _square(get("patch_size"))
    if get("max_patches") and patch and "flattened_patches" in (get("model_input_names") or ()):
        return Patches(patch, get("max_patches"))
    if get("image_grid_pinpoints") or get("max_image_tiles") or get("max_patches"):
        return Canvases(_square(size) or _square(get("crop_size")) or _USUAL_TILE)
    if any(get(name) is not None for name in _VARIES) or _edge(size, "longest_edge"):
        return _area(get, size, splits)
    return None


def _crops(image_processor: Any, get: Callable[[str], Any]) -> Crops:
    count: Any = getattr(image_processor, "get_number_of_image_patches", None)

    def counted(width: int, height: int) -> int:
        views: int = count(height, width, {"crop_to_patches": True})
        return max(1, views - 1)  # without that of the whole

    counts = range(get("min_patches") or 1, get("max_patches") + 1)
    tile = _square(get("tile_size")) or _square(get("size")) or _USUAL_TILE
    return Crops(tile, counts, 0, counted if count else None)


def _area(get: Callable[[str], Any], size: Any, splits: bool | None) -> Area:
    longest = _edge(size, "longest_edge")
    if merge := get("merge_size"):  # the edges are areas here
        patch = get("patch_size")
        unit = patch * merge if isinstance(patch, int) and isinstance(merge, int) else 1
        return Area(unit, get("max_pixels") or longest or math.inf)
    return Area(most=longest**2 if longest else math.inf, splits_above=longest if splits else None)


def _edge(size: Any, name: str) -> int | None:
    found = size.get(name) if isinstance(size, Mapping) else getattr(size, name, None)
    return found if isinstance(found, int) else None


def _square(size: Any) -> Size | None:
    """The width and height of what may also be given by its shorter edge."""
    if isinstance(size, int):
        return size, size
    short = _edge(size, "shortest_edge")
    width, height = _edge(size, "width") or short, _edge(size, "height") or short
    return (width, height) if width and height else None


@dataclass(frozen=True, slots=True)
class View:
    """How the processor of a model, called `name`, is to show pictures."""

    name: str
    image_processor: Any
    combined: Any
    sight: Sight

    @property
    def way(self) -> Way | None:
        return way_of(self.image_processor, self.combined)

    def picture(self, pixels: PIL.Image.Image, count: Count) -> PIL.Image.Image:
        """A picture in the size in which the processor is given it.

        Raises UsageError if it cannot take so few tokens as are allowed.
        """
        detail = self.sight.detail
        return self._resized(pixels, self._fitted(pixels.size, detail, count))

    def frame(self, pixels: PIL.Image.Image, count: Count) -> PIL.Image.Image:
        """`picture` for a frame of a clip that the model sees as one picture of many."""
        detail = "low" if self.sight.detail == "auto" else self.sight.detail
        return self._resized(pixels, self._fitted(pixels.size, detail, count, frame=True))

    def frame_of_video(self, pixels: PIL.Image.Image, count: Count) -> PIL.Image.Image:
        """`frame` for a processor that takes videos, and has a budget of its own for them."""
        size = pixels.size
        if self.sight.detail == "low":
            size = shrunk(size, _FRAME)
        counted = partial(self._counted, "video", count=count)
        bounded = self._bounded(size, lambda at_most: shrunk(size, at_most), counted)
        return self._resized(pixels, bounded)

    def options(self, sizes: Sequence[Size], *, frames: bool = False) -> dict[str, Any]:
        """What the processor is told about pictures of these sizes, frames of clips among them."""
        if self.sight.as_shipped or not sizes:
            return {}
        told = self.way.options(sizes) if self.way else {}
        coarse = self.sight.detail == "low" or (frames and self.sight.detail == "auto")
        if coarse and getattr(self.image_processor, _EXTRA_VIEWS, None):
            told[_EXTRA_VIEWS] = False
        return told

    def _fitted(self, size: Size, detail: str, count: Count, *, frame: bool = False) -> Size:
        way, most = self.way, self.sight.pixels(detail, frame=frame)

        def within(pixels: float) -> Size:
            if way is None:
                return shrunk(size, pixels)
            return way.own(size, min(pixels, most), all_of_them=detail in ("high", "max"))

        if self.sight.as_shipped or way is None:
            fitted = size
        elif detail == "max":
            fitted = way.shipped(size)
        else:
            fitted = way.low(size, most) if detail == "low" else within(most)
        return self._bounded(fitted, within, partial(self._counted, "picture", count=count))

    def _bounded(
        self, fitted: Size, within: Callable[[float], Size], counted: Callable[[Size], int | None]
    ) -> Size:
        """The size, or less of it, so that it takes no more than the tokens that are allowed."""
        allowed = self.sight.max_tokens
        if allowed is None:
            return fitted
        pixels, least = float(fitted[0] * fitted[1]), math.inf
        while (tokens := counted(fitted)) is not None and tokens > allowed:
            least = min(least, tokens)
            pixels *= min(0.9, allowed / tokens)
            if pixels < _LEAST:
                raise UsageError(
                    f"--max-image-tokens {allowed}: {self.name} takes at least {least}"
                    " for a picture",
                    hint=f"--max-image-tokens {least}, or another model",
                )
            fitted = within(pixels)
        return fitted

    def _counted(self, kind: str, size: Size, *, count: Count) -> int | None:
        options = self.options([size])
        key = kind, size
        if key not in self.sight.counts:
            self.sight.counts[key] = count(size, options)
        return self.sight.counts[key]

    def _resized(self, pixels: PIL.Image.Image, size: Size) -> PIL.Image.Image:
        if size == pixels.size:
            return pixels
        resample: Any = getattr(self.image_processor, "resample", None)
        try:
            return pixels.resize(size, PIL.Image.Resampling(resample))
        except ValueError:  # none, or one of torchvision's own names
            return pixels.resize(size, PIL.Image.Resampling.BICUBIC)


@contextmanager
def telling(image_processor: Any, options: Options) -> Iterator[None]:
    """Let the image processor itself say what it is told: some processors of text ask it that.

    Idefics2's counts its pictures so.
    """
    name = "do_image_splitting"
    if name not in options:
        yield
        return
    with _one_at_a_time:  # prompts are prepared on several threads
        shipped = getattr(image_processor, name)
        setattr(image_processor, name, options[name])
        try:
            yield
        finally:
            setattr(image_processor, name, shipped)
