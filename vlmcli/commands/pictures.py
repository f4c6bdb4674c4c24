"""Arguments -> pictures, through sources and images, within the limits of the settings."""

from collections.abc import Iterable, Iterator

from vlmcli import images, sources
from vlmcli.messages import Image
from vlmcli.settings import Settings
from vlmcli.sources import Source


def read(source: Source, settings: Settings) -> Iterator[Image]:
    """The pictures of one source: one, or the pages of a PDF."""
    data = sources.read(
        source, max_bytes=settings.max_download_bytes, timeout_s=settings.url_timeout
    )
    return images.decode(source.name, data, max_pixels=settings.max_pixels, page=source.page)


def read_all(arguments: Iterable[str], settings: Settings, *, recursive: bool) -> list[Image]:
    """Every picture of every argument, in order. Raises InputError at the first that is bad."""
    return [
        image
        for argument in arguments
        for source in sources.find(argument, recursive=recursive)
        for image in read(source, settings)
    ]
