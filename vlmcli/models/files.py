"""Which files make a model that can be run, whether all are there, and how to read their headers.

Standard library only: `vlm models ls` looks at every model of the cache in a blink.
"""

import hashlib
import json
import math
import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAFE, PICKLED = ".safetensors", ".bin"
CONFIG = "config.json"
_TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
_COPY = re.compile(r"consolidated|(pytorch_)?model\.(fp16|bf16|fp32|int8|non_ema)[.-]")
_FIRST = {SAFE: "model.safetensors", PICKLED: "pytorch_model.bin"}
_CUT_SHORT = (ValueError, LookupError, TypeError, AttributeError, RecursionError, struct.error)


@dataclass(frozen=True, slots=True)
class Need:
    """What is wanted of a model beside its texts: its weights, pickled ones too, its own code."""

    weights: bool = True
    pickles: bool = False
    code: bool = False


WEIGHTS = Need()


def wanted_files(files: Iterable[str], need: Need = WEIGHTS) -> list[str]:
    """Of a repo's files, those that inference needs: one set of weights, and texts.

    Only those at the top, and additional chat templates: other folders hold other formats,
    checkpoints and copies. Pickles only where there is nothing else.
    """
    files = list(files)
    top = [file for file in files if "/" not in file]
    wanted = [file for file in top if file.endswith(_TEXTS) and not _lists_others(file, need)]
    wanted += [file for file in files if file.startswith("additional_chat_templates/")]
    if need.code:
        wanted += [file for file in files if file.endswith(".py")]
    if need.weights:
        wanted += set_of_weights(top, SAFE) or (
            set_of_weights(top, PICKLED) if need.pickles else []
        )
    return wanted


def _lists_others(file: str, need: Need) -> bool:
    """Whether a text is the index of pickles, which nobody asked for."""
    return file.endswith(".bin.index.json") and not need.pickles


def set_of_weights(top: Iterable[str], suffix: str) -> list[str]:
    """One set: copies in other number formats, and weights of other things, are left out."""
    weights = [file for file in top if file.endswith(suffix)]
    if suffix == PICKLED:
        weights = [file for file in weights if file.startswith("pytorch_model")]
    if _FIRST[suffix] in weights:  # what transformers looks for before any shards
        return [_FIRST[suffix]]
    return [file for file in weights if not _COPY.match(file)] or weights


def holds_weights(folder: Path, need: Need = WEIGHTS) -> bool:
    """True if every file of the weights is there: one, or all that the index names."""
    return _holds(folder, SAFE) or (need.pickles and _holds(folder, PICKLED))


def _holds(folder: Path, suffix: str) -> bool:
    first = folder / _FIRST[suffix]
    if first.is_file():
        return True
    try:
        index = json.loads(read_quietly(first.with_name(f"{first.name}.index.json")))
        shards = set(index["weight_map"].values())
    except FileNotFoundError:
        return suffix == SAFE and any(file.is_file() for file in folder.glob(f"*{suffix}"))
    except _CUT_SHORT:
        return False
    return all((folder / shard).is_file() for shard in shards)


def read_quietly(file: Path, most_bytes: int = -1) -> bytes:
    """The first bytes of a file, or all: without a trace in when it was last used, if that can be.

    A look at a model is no use of it, and "last used" is what people delete by.
    """
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOATIME", 0))
    except PermissionError:  # another user's file
        handle = os.open(file, os.O_RDONLY)
    with os.fdopen(handle, "rb") as opened:
        return opened.read(most_bytes)


def read_config(folder: Path) -> Mapping[str, Any]:
    """What config.json says; empty if it is missing or broken."""
    try:
        found = json.loads(read_quietly(folder / CONFIG))
    except (OSError, *_CUT_SHORT):
        return {}
    return found if isinstance(found, dict) else {}


def fingerprint(folder: Path, need: Need = WEIGHTS) -> str:
    """What tells the model in a folder from every other, as 64 hex digits.

    The SHA-256 of the names, sizes and contents of the files that inference needs; of a file above
    64 MB, of 1024 pieces of it, spread evenly: training changes a tensor all over, and whoever
    asks a question does not wait until gigabytes are read once more.
    """
    inside = [*folder.glob("*"), *folder.glob("additional_chat_templates/*")]
    found = [file.relative_to(folder).as_posix() for file in inside if file.is_file()]
    digest = hashlib.sha256()
    for name in sorted(wanted_files(found, need)):
        size = (folder / name).stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        with (folder / name).open("rb") as file:
            if size <= _WHOLE_BYTES:
                digest.update(file.read())
                continue
            for piece in range(_PIECES):
                file.seek((size - _PIECE_BYTES) * piece // (_PIECES - 1))
                digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()


_WHOLE_BYTES = 64 << 20
_PIECES, _PIECE_BYTES = 1024, 4096


def count_numbers(folder: Path) -> Mapping[str, int]:
    """How many numbers the weights hold, by safetensors' name of their format (BF16, F32, …)."""
    counts: Counter[str] = Counter()
    for dtype, shape in tensors(folder).values():
        counts[dtype] += math.prod(shape)
    return counts


def tensors(folder: Path) -> Mapping[str, tuple[str, tuple[int, ...]]]:
    """By name, the format and the shape of each of the weights.

    From the headers of one set of files: 8 bytes of length, then JSON. Empty if nothing can be
    told. https://github.com/huggingface/safetensors#format
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for name in set_of_weights((file.name for file in folder.glob(f"*{SAFE}")), SAFE):
        with suppress(OSError, *_CUT_SHORT):  # which loading will say
            for tensor, entry in _header(folder / name).items():
                found[tensor] = entry["dtype"], tuple(map(int, entry["shape"]))
    return found


def _header(file: Path) -> dict[str, Any]:
    (length,) = struct.unpack("<Q", read_quietly(file, 8))
    header = json.loads(read_quietly(file, 8 + min(length, file.stat().st_size))[8:])
    return {name: entry for name, entry in header.items() if name != "__metadata__"}
