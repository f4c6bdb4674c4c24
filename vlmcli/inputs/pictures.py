"""Arguments -> pictures, through sources and images, within the limits of the settings."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vlmcli import images, sources
from vlmcli.errors import InputError
from vlmcli.messages import Image
from vlmcli.settings import Settings
from vlmcli.sources import Source


def read(source: Source, settings: Settings) -> Iterator[Image]:
    """The pictures of one source: one, or the pages of a PDF."""
    data = sources.read(
        source, max_bytes=settings.max_download_bytes, timeout_s=settings.url_timeout
    )
    found = images.decode(source.name, data, max_pixels=settings.max_pixels, page=source.page)
    if source.kind in ("path", "url"):
        return found
    page = f"#page={source.page}" if source.page else ""
    again = f"data:;base64,{base64.b64encode(data).decode()}{page}"
    return (replace(image, again=again) for image in found)


def read_all(arguments: Iterable[str], settings: Settings, *, recursive: bool) -> list[Image]:
    """Every picture of every argument, in order. Raises InputError at the first that is bad."""
    images: list[Image] = []
    for argument in arguments:
        for source in sources.find(argument, recursive=recursive):
            if isinstance(source, InputError):
                raise source
            images += read(source, settings)
    return images
