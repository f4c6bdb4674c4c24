"""Which pictures the inputs of a prompt hold, and what of the inputs belongs to later ones."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

Inputs = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures of a prompt as its inputs show them: for each input its shape and a digest."""

    tokens: int
    inputs: Mapping[str, tuple[torch.Size, bytes]]


NO_PICTURES = Pictures(0, {})


def pictures(tokens: int, seen: Inputs) -> Pictures:
    """What tells the pictures in the inputs `seen`, of `tokens` tokens, from all others."""
    return Pictures(tokens, {name: mark(tensor) for name, tensor in seen.items()})


def after(pictures: Pictures, seen: Inputs) -> Inputs | None:
    """Of the inputs of pictures those that come after `pictures`; None if others come first.

    Tiles, patches and sizes of further pictures follow those of the first along one axis: so it is
    seen, and not known, where in an input a picture ends.
    """
    if not pictures.inputs.keys() <= seen.keys():
        return None
    rest = {}
    for name, tensor in seen.items():
        if name not in pictures.inputs:
            rest[name] = tensor
            continue
        shape, digest = pictures.inputs[name]
        halves = _split(tensor, shape)
        if halves is None or mark(halves[0]) != (shape, digest):
            return None
        if halves[1].numel():
            rest[name] = halves[1]
    # An input that stayed the same beside one that grew may be about all pictures together.
    return rest if not rest or pictures.inputs.keys() <= rest.keys() else None


def mark(tensor: torch.Tensor) -> tuple[torch.Size, bytes]:
    """The shape and a digest of the numbers, which may be on any device."""
    numbers: Any = tensor.cpu().contiguous().flatten().view(torch.uint8).numpy()
    return tensor.shape, hashlib.sha256(numbers).digest()


def _split(tensor: torch.Tensor, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The part of `shape` that the tensor begins with, and the rest; None if there are not both."""
    if tensor.ndim != len(shape):
        return None
    grown = [axis for axis, size in enumerate(tensor.shape) if size != shape[axis]]
    axis = grown[0] if grown else 0
    more = tensor.shape[axis] - shape[axis]
    if len(grown) > 1 or axis > 1 or more < 0:  # of (pictures, tiles, colours, height, width)
        return None
    return tensor.narrow(axis, 0, shape[axis]), tensor.narrow(axis, shape[axis], more)


@contextmanager
def reaching(model: Any, names: tuple[str, ...]) -> Iterator[None]:
    """See to it that `generate` hands the model the pictures that come after known tokens.

    Models whose own code drops pictures wherever a cache is would answer without having seen them.
    """

    if not names:
        yield
        return

    def check(_model: Any, _positional: Any, given: dict[str, Any]) -> None:
        hook.remove()
        encoded = given.get("mm_encoder_outputs") is not None
        if lost := [name for name in names if given.get(name) is None and not encoded]:
            raise ValueError(f"{lost[0]} did not reach the model")

    hook = model.register_forward_pre_hook(check, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
