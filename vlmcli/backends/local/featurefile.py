"""What a vision encoder gave as a safetensors file, and back; a damaged file holds nothing."""

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from vlmcli.backends.local.pieces import Given, Tree

_ABOUT = "vlm"
"""The one entry of the metadata: of two, chance would say which is first in the file."""
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RecursionError, struct.error)


class NotFiniteError(ValueError):
    """Features that are no good to anyone, and might be better the next time."""


def copied(tree: Tree) -> Tree:
    """The tree with tensors of its own. Raises TypeError for what a file cannot hold."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(tree, list | tuple):
        return [copied(one) for one in tree]
    raise TypeError(f"features of the type {type(tree).__name__}")


def pack(given: Given) -> bytes:
    """The file; tensors may be on any device. Raises NotFiniteError."""
    tensors = {str(n): one.cpu() for n, one in enumerate(_leaves(given.fields.values()))}
    if not all(one.isfinite().all() for one in tensors.values()):
        raise NotFiniteError
    numbers = iter(tensors)
    fields = {name: _numbered(tree, numbers) for name, tree in given.fields.items()}
    about = [fields, [*given.left], [*given.empty]]
    metadata = {_ABOUT: json.dumps([*about, _checksum(about, tensors.values())])}
    return safetensors.torch.save(tensors, metadata)


def unpack(data: bytes, device: torch.device) -> Given | None:
    """What was packed; None if not every bit of it is there."""
    try:
        (length,) = struct.unpack_from("<Q", data)
        metadata = json.loads(data[8 : 8 + length])["__metadata__"]
        *about, checksum = json.loads(metadata[_ABOUT])
        tensors = safetensors.torch.load(data)
        if checksum != _checksum(about, [tensors[str(n)] for n in range(len(tensors))]):
            return None
        fields, left, empty = about
        there = {name: one.to(device) for name, one in tensors.items()}
        filled = {name: _filled(tree, there) for name, tree in fields.items()}
        return Given(filled, (*left,), (*empty,))
    except (SafetensorError, *_DAMAGED):
        return None


def _leaves(trees: Iterable[Tree]) -> Iterator[torch.Tensor]:
    for tree in trees:
        if isinstance(tree, torch.Tensor):
            yield tree
        else:
            yield from _leaves(tree)


def _numbered(tree: Tree, numbers: Iterator[str]) -> Any:
    if isinstance(tree, torch.Tensor):
        return next(numbers)
    return [_numbered(one, numbers) for one in tree]


def _filled(tree: Any, tensors: dict[str, torch.Tensor]) -> Tree:
    return tensors[tree] if isinstance(tree, str) else [_filled(one, tensors) for one in tree]


def _checksum(about: list[Any], tensors: Iterable[torch.Tensor]) -> str:
    found = zlib.crc32(json.dumps(about).encode())
    for one in tensors:
        found = zlib.crc32(f"{one.dtype} {one.shape}".encode(), found)
        numbers: Any = one.flatten().view(torch.uint8).numpy()
        found = zlib.crc32(numbers, found)
    return f"{found:08x}"
