"""Arguments -> pictures, through sources and images, within the limits of the settings."""

import base64
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256

from vlmcli import images, phases, sources
from vlmcli.errors import InputError
from vlmcli.messages import Image
from vlmcli.settings import Settings
from vlmcli.sources import Source

_PIXELS_OF_PAGE = 2_000_000
_PIXELS_OF_PHOTO = 12_000_000


@dataclass(frozen=True, slots=True)
class Unread:
    """A picture whose bytes are here, not decoded yet; `page` is that of a PDF.

    `pixels` is how many there will be, roughly where only a decoder could tell.
    """

    name: str
    sha256: str
    page: int | None
    pixels: int
    decode: Callable[[], Image]


def find(source: Source, settings: Settings) -> Iterator[Unread]:
    """The pictures of one source: one, or the pages of a PDF. Raises InputError."""
    data = _data(source, settings)
    digest = sha256(data).hexdigest()

    def decode(page: int | None) -> Image:
        one = replace(source, page=page)
        found = _decoded(one, data, settings)
        placed = source.kind in ("path", "url")
        return next(found if placed else _with_place(found, one, _as_uri(data)))

    for name, page in images.members(source.name, data, source.page):
        pixels = _PIXELS_OF_PAGE if page else images.count_pixels(data) or _PIXELS_OF_PHOTO
        yield Unread(name, digest, page, pixels, partial(decode, page))


def read(source: Source, settings: Settings) -> Iterator[Image]:
    """The pictures of one source: one, or the pages of a PDF."""
    return (unread.decode() for unread in find(source, settings))


def read_to_keep(source: Source, settings: Settings) -> Iterator[Image]:
    """As `read`, each with what reads it again at any time, from any folder.

    That is a path, or else the bytes themselves: a URL may give something else tomorrow.
    """
    data = _data(source, settings)
    path = os.path.abspath(source.location)  # noqa: PTH100 - Path.resolve would follow links
    place = path if source.kind == "path" else _as_uri(data)
    return _with_place(_decoded(source, data, settings), source, place)


def all_there(arguments: Iterable[str]) -> bool:
    """Whether there is something to read for every argument, as far as a look at its name tells."""
    try:
        return all(isinstance(next(sources.find(argument), None), Source) for argument in arguments)
    except InputError:
        return False


def read_all(arguments: Iterable[str], settings: Settings, *, recursive: bool) -> list[Image]:
    """Every picture of every argument, in order. Raises InputError at the first that is bad."""
    return [
        image
        for argument in arguments
        for source in _sources(argument, recursive=recursive)
        for image in read(source, settings)
    ]


def read_all_to_keep(
    arguments: Iterable[str], settings: Settings, *, recursive: bool = False
) -> list[Image]:
    """As `read_all`, by `read_to_keep`."""
    return [
        image
        for argument in arguments
        for source in _sources(argument, recursive=recursive)
        for image in read_to_keep(source, settings)
    ]


def _sources(argument: str, *, recursive: bool) -> Iterator[Source]:
    for source in sources.find(argument, recursive=recursive):
        if isinstance(source, InputError):
            raise source
        yield source


@phases.noted("pictures")
def _data(source: Source, settings: Settings) -> bytes:
    return sources.read(
        source, max_bytes=settings.max_download_bytes, timeout_s=settings.url_timeout
    )


def _decoded(source: Source, data: bytes, settings: Settings) -> Iterator[Image]:
    found = images.decode(source.name, data, max_pixels=settings.max_pixels, page=source.page)
    return phases.each("pictures", found)


def _as_uri(data: bytes) -> str:
    return f"data:;base64,{base64.b64encode(data).decode()}"


def _with_place(found: Iterable[Image], source: Source, place: str) -> Iterator[Image]:
    """Each with `place`, and the page that it is of."""
    name = source.name.removesuffix(f"#page={source.page}")
    return (replace(image, again=f"{place}{image.name.removeprefix(name)}") for image in found)
