"""Files that are written whole or not at all, and are on the disk for good once they are there."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from vlmcli.errors import OutputError, shown

UNFINISHED = ".vlm-"
"""What the names of files begin with that are not written to the end."""


def write_private(path: Path, data: bytes) -> None:
    """Write the whole file or nothing of it, with the rights that it had; a link stays a link.

    A new one is the user's alone; folders that it needs are made. Raises OutputError.
    """
    real = path.resolve()
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritten(path, error) from error
    with replaced(real, mode=0o600) as file:
        file.write(data)


@contextmanager
def replaced(path: Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path`, and its rights, when the block ends.

    A new one has those of `mode`, less the umask. What was there stays if the block fails. Raises
    OutputError if it cannot be written.
    """
    with _beside(path) as temporary:
        opened = partial(os.open, mode=mode)
        with open(temporary, "xb", opener=opened) as file:
            yield file
            _to_disk(file)
        with suppress(FileNotFoundError):
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)


@contextmanager
def created(path: Path) -> Iterator[BinaryIO]:
    """As `replaced`, where nothing is yet. Raises FileExistsError if something came there."""
    with _beside(path) as temporary:
        with temporary.open("xb") as file:
            yield file
            _to_disk(file)
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            if os.path.lexists(path):
                raise FileExistsError(path) from None
            temporary.replace(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    # Not made of the name of `path`, which may be as long as a name can be.
    temporary = path.with_name(f"{UNFINISHED}{os.urandom(8).hex()}")
    try:
        yield temporary
        _folder_to_disk(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise _unwritten(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> OutputError:
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"{shown(str(path))} cannot be written", hint=reason)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _folder_to_disk(folder: Path) -> None:
    """So that the name, too, outlives a power cut; not every system can do that to a folder."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
