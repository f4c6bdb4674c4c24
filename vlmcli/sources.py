"""An argument of the command line -> the bytes it names.

Knows paths, folders, globs, URLs, data: URIs, stdin and the clipboard. Of a picture it knows the
first bytes only, enough to turn away a text, a video or /dev/zero; `images` does the decoding.
"""

import base64
import difflib
import glob
import io
import os
import re
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import unquote_to_bytes

from PIL import ImageGrab

from vlmcli import web
from vlmcli.errors import InputError, shown
from vlmcli.formats import FORMATS, HEAD_BYTES, SUFFIXES, is_picture, seems

ACCEPTED = "paths, globs, folders, http(s)://, data:, - (stdin) and clip: (clipboard) are read"
CLIPS = "vlm video answers about clips"
_CHUNK_BYTES = 1 << 20
_NEIGHBOURS = 5_000  # names looked through for a near miss: 20 ms


@dataclass(frozen=True, slots=True)
class Source:
    """Something to read a picture from.

    `name` is what the user typed (a data: URI shortened), or the path of a member of a folder or
    glob. `page` is the page, from 1, that `#page=` asked for.
    """

    name: str
    kind: Literal["path", "url", "data", "stdin", "clipboard"]
    location: str = ""
    page: int | None = None


def find(argument: str, *, recursive: bool = False) -> Iterator[Source | InputError]:
    """What `argument` names, folder by folder in sorted order; `recursive` goes into sub-folders.

    An existing path wins over every other meaning except that of `-`. Raises InputError if nothing
    is there; one stands in the place of a sub-folder that cannot be looked into. Nothing
    but a folder's members of unknown suffix is opened yet.
    """
    if not argument:
        raise InputError("a name is empty", hint=ACCEPTED)
    if "\0" in argument:
        raise InputError(f"{shown(argument)}: no such file")
    if argument == "-":
        yield Source(argument, "stdin")
        return
    path = argument
    if argument.startswith("~") and not os.path.lexists(argument):
        path = os.path.expanduser(argument)  # noqa: PTH111 - Path raises for an unknown user
    if os.path.isdir(path):  # noqa: PTH112 - unlike Path.is_dir, false for a name that is too long
        yield from _folder(path, recursive)
    elif os.path.lexists(path):
        yield Source(argument, "path", path)
    elif "#page=" in argument:
        base, _, digits = argument.rpartition("#page=")
        if not re.fullmatch("[1-9][0-9]{0,8}", digits):
            raise InputError(f"{shown(argument)}: {shown(digits)!r} is not a page", hint="from 1")
        for source in find(base, recursive=recursive):
            if isinstance(source, Source):
                source = replace(source, name=f"{source.name}#page={digits}", page=int(digits))
            yield source
    else:
        yield from _not_a_path(argument, path)


def _not_a_path(argument: str, path: str) -> Iterator[Source]:
    protocol = re.match(r"(data|clip)(?=:)|[a-z][a-z0-9+.-]*(?=://)", argument, re.IGNORECASE)
    match protocol and protocol[0].lower():
        case "http" | "https":
            yield Source(argument, "url", argument)
        case "data":
            yield Source(shown(argument), "data", argument)
        case "clip" if len(argument) == len("clip:"):
            yield Source(argument, "clipboard")
        case str(other) if other != "clip":
            raise InputError(f"{shown(argument)}: vlm does not read {other}://", hint=ACCEPTED)
        case _ if glob.has_magic(path):
            found = glob.glob(path, recursive=True)  # noqa: PTH207 - Path.glob finds hidden files
            matches = sorted(match for match in found if not Path(match).is_dir())
            if not matches:
                raise InputError(f"{shown(argument)}: no file matches")
            yield from (Source(match, "path", match) for match in matches)
        case _:
            raise _missing(argument, Path(path))


def _missing(argument: str, path: Path) -> InputError:
    try:
        names = [entry.name for entry in islice(path.parent.iterdir(), _NEIGHBOURS)]
    except (FileNotFoundError, NotADirectoryError):
        return InputError(
            f"{shown(argument)}: no such file", hint=f"there is no folder {shown(str(path.parent))}"
        )
    except OSError as error:  # a folder that may not be looked into
        return _unreadable(argument, error)
    near = difflib.get_close_matches(path.name, names, n=1)
    if near:
        hint = f"did you mean {shown(str(path.with_name(near[0])))}?"
    else:
        hint = f"you are in {shown(str(Path.cwd()))}" if not path.is_absolute() else "is it right?"
    return InputError(f"{shown(argument)}: no such file", hint=hint)


def _folder(folder: str, recursive: bool) -> Iterator[Source | InputError]:
    empty = True
    for path in _pictures_in(folder, recursive, set()):
        empty = False
        yield path if isinstance(path, InputError) else Source(path, "path", path)
    if empty:
        deeper = not recursive and any(is_folder for _, is_folder, _ in _listing(folder))
        hint = "-r looks into its sub-folders too" if deeper else f"vlm reads {FORMATS}"
        raise InputError(f"{shown(folder)}: no pictures in this folder", hint=hint)


def _pictures_in(folder: str, recursive: bool, seen: set[str]) -> Iterator[str | InputError]:
    seen.add(os.path.realpath(folder))
    for path, is_folder, is_file in _listing(folder):
        if is_folder and recursive:
            if os.path.realpath(path) in seen:  # a link may lead back up
                continue
            try:
                yield from _pictures_in(path, recursive, seen)
            except InputError as error:  # of one folder; the others go on
                yield error
        elif is_file and (Path(path).suffix.lower() in SUFFIXES or _starts_like_a_picture(path)):
            yield path


def _listing(folder: str) -> Iterator[tuple[str, bool, bool]]:
    """(path, is a folder, is a file) of each member that is not hidden, sorted by path."""
    names: list[str] = []  # of a million files: no more is kept of each
    folders: set[str] = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    folders.add(entry.name)
                elif not entry.is_file():
                    continue
                names.append(entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error
    names.sort(reverse=True)
    while names:
        name = names.pop()
        is_folder = name in folders
        yield os.path.join(folder, name), is_folder, not is_folder  # noqa: PTH118


def _starts_like_a_picture(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return is_picture(file.read(HEAD_BYTES))
    except OSError:  # nobody named this file, and nothing says that it is a picture
        return False


def read(source: Source, *, max_bytes: int, timeout_s: float) -> bytes:
    """The bytes of a picture or PDF; raises InputError if they cannot be had or are something else.

    `max_bytes` caps what comes from a URL, stdin or a pipe, not a file that is on disk anyway.
    """
    return _given(source, partial(_gather, source), max_bytes, timeout_s)


def copy(source: Source, to: BinaryIO, *, max_bytes: int, timeout_s: float) -> None:
    """Write what `source` gives into a file, whatever it is; the limits are those of `read`."""

    def write(chunks: Iterable[bytes], most: int) -> bytes:
        size = 0
        for chunk in chunks:
            size += to.write(chunk)
            if size > most:
                raise web.too_large(source.name, most)
        return b""

    _given(source, write, max_bytes, timeout_s)


def _given(
    source: Source,
    gather: Callable[[Iterable[bytes], int], bytes],
    max_bytes: int,
    timeout_s: float,
) -> bytes:
    """What `gather` makes of the chunks of `source`, and of how many bytes they may be."""
    try:
        match source.kind:
            case "url":
                return web.fetch(
                    source.location,
                    lambda chunks: gather(chunks, max_bytes),
                    max_bytes=max_bytes,
                    timeout_s=timeout_s,
                )
            case "data":
                return gather([_data_of(source)], sys.maxsize)
            case "clipboard":
                return gather([_clipboard()], sys.maxsize)
            case "stdin":
                return gather(_chunks(stdin()), max_bytes)
            case "path":
                with Path(source.location).open("rb") as file:
                    on_disk = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
                    return gather(_chunks(file), sys.maxsize if on_disk else max_bytes)
    except OSError as error:
        raise _unreadable(source.name, error) from error
    except MemoryError as error:
        raise InputError(f"{shown(source.name)}: too large for this machine's memory") from error


def _gather(source: Source, chunks: Iterable[bytes], max_bytes: int) -> bytes:
    """All chunks as one, given up as soon as they are no picture, or too many."""
    data = bytearray()
    recognized = False
    for chunk in chunks:
        data += chunk
        if not recognized and len(data) >= HEAD_BYTES:
            _check_head(source, bytes(data[:HEAD_BYTES]))
            recognized = True
        if len(data) > max_bytes:
            raise web.too_large(source.name, max_bytes)
    if not recognized:
        _check_head(source, bytes(data))
    return bytes(data)


def _check_head(source: Source, head: bytes) -> None:
    if not head:
        hint = "pipe a picture in, and name - only once" if source.kind == "stdin" else ""
        raise InputError(f"{shown(source.name)} is empty", hint=hint)
    if not is_picture(head):
        what = seems(head)
        gives = f": the URL gives {what}" if what and source.kind == "url" else ""
        hint = f"vlm reads {FORMATS}"
        if what and not gives:
            hint = f"it seems to be {what}; {CLIPS if what.startswith('a video') else hint}"
        raise InputError(f"{shown(source.name)}: not a picture{gives}", hint=hint)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def stdin() -> BinaryIO:
    """Standard input as bytes; raises InputError if nothing can come from there."""
    if sys.stdin is None:
        raise InputError("stdin is closed", hint="pipe something in")
    if sys.stdin.isatty():
        raise InputError("stdin is a terminal", hint="pipe something in")
    return sys.stdin.buffer


def _clipboard() -> bytes:
    tools = " (on Linux, wl-paste or xclip must be installed)"
    try:
        with warnings.catch_warnings(action="ignore"):
            content = ImageGrab.grabclipboard()
        if isinstance(content, list):
            return Path(content[0]).read_bytes() if content else b""
        if content is not None:
            png = io.BytesIO()
            content.save(png, "PNG", compress_level=1, exif=content.getexif())
            return png.getvalue()
    # Pillow runs another program here and decodes whatever that prints: anything may be raised.
    except Exception as error:
        raise InputError("the clipboard cannot be read", hint=shown(str(error)) + tools) from error
    raise InputError("the clipboard holds no picture", hint="copy one first")


def _data_of(source: Source) -> bytes:
    header, comma, payload = source.location.partition(",")
    if not comma:
        raise InputError(f"{source.name}: not a data: URI", hint="data:image/png;base64,…")
    data = unquote_to_bytes(payload)
    if not header.lower().endswith(";base64"):
        return data
    try:
        return base64.b64decode(b"".join(data.split()), validate=True)
    except ValueError as error:
        raise InputError(f"{source.name}: not valid base64", hint="is it complete?") from error


def _unreadable(name: str, error: OSError) -> InputError:
    return InputError(f"{shown(name)}: {(error.strerror or str(error)).lower()}")
