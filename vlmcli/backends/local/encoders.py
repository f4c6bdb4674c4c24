"""Where in a model pictures become features, and how one looks at that from outside.

No list of names: it is transformers' own `get_image_features`, or else the vision encoder itself.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from transformers.utils import ModelOutput

from vlmcli.backends.local import featurefile
from vlmcli.backends.local.pieces import Given
from vlmcli.backends.local.pixels import Inputs

_MODALITIES = ("image", "video")
# How transformers' names end for what is large, and what no language model reads.
_STATES = ("hidden_states", "attentions")
_BEFORE_PROJECTION = ("hidden_state", *_STATES)


class Known:
    """Stands in for what an encoder gives; what was left out of it is made when it is read."""

    def __init__(self, given: Given, encode: Callable[[], Any]) -> None:
        self.__dict__.update(dict.fromkeys(given.empty), **given.fields)
        self._given = given
        self._encode = functools.cache(encode)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._given.left:
            raise AttributeError(name)
        return getattr(self._encode(), name)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return getattr(self, key)
        return self._encode()[key] if self._given.left else [*self._given.fields.values()][key]

    def __len__(self) -> int:
        return len(self._given.fields) + len(self._given.left)


@dataclass(slots=True)
class Encoder:
    """What makes features of pictures; `left` is how the names end of what is not kept of them.

    `splits` is whether it may be asked about one picture of several. `fits` is False once it has
    given what cannot be kept, or once what was left out was read.
    """

    name: str
    encode: Callable[..., Any]
    left: tuple[str, ...]
    splits: bool
    fits: bool = True

    def taken(self, output: Any) -> Given | None:
        """What is kept of its output; None if that is nothing of which the rest could be told."""
        if not isinstance(output, ModelOutput) or not dataclasses.is_dataclass(output):
            return None
        values = {one.name: getattr(output, one.name) for one in dataclasses.fields(output)}
        empty = tuple(name for name, value in values.items() if value is None)
        left = tuple(name for name in values if name.endswith(self.left) and name not in empty)
        kept = {name: one for name, one in values.items() if name not in (*empty, *left)}
        try:
            copies = {name: featurefile.copied(one) for name, one in kept.items()}
        except TypeError:
            return None
        return Given(copies, left, empty) if copies else None


LookUp = Callable[[Encoder, Inputs], Any | None]
"""Gives what an encoder would; None if that, or what it is given, is nothing to keep."""


def watch(model: Any, look_up: LookUp) -> None:
    """See to it that `look_up` is asked before pictures are encoded."""
    encoding = False

    def watched(encoder: Encoder) -> Callable[..., Any]:
        @functools.wraps(encoder.encode)
        def see(*args: Any, **kwargs: Any) -> Any:
            nonlocal encoding
            if encoding or not encoder.fits:  # a part of one that was asked for
                return encoder.encode(*args, **kwargs)
            encoding = True
            try:
                found = look_up(encoder, _by_name(encoder.encode, args, kwargs))
                if found is None:
                    encoder.fits = False
                    return encoder.encode(*args, **kwargs)
                return found
            finally:
                encoding = False

        return see

    if model.is_remote_code():  # of which nothing is known
        return
    for owner, attribute, encoder in [*_encoders(model)]:
        setattr(owner, attribute, watched(encoder))


def _encoders(model: Any) -> Iterator[tuple[Any, str, Encoder]]:
    for modality in _MODALITIES:
        attribute = f"get_{modality}_features"
        for owner in (model.base_model, model):
            if encode := getattr(owner, attribute, None):
                name = f"{type(owner).__qualname__}.{attribute}"
                yield owner, attribute, Encoder(name, encode, _BEFORE_PROJECTION, True)
                break
    tower = model.get_encoder(modality="image")
    if tower is model and model.config.is_encoder_decoder and model.main_input_name != "input_ids":
        tower = model.get_encoder()  # the text is the decoder's
    if tower is not model and isinstance(tower, torch.nn.Module):
        name = f"{type(tower).__qualname__}.forward"
        yield tower, "forward", Encoder(name, tower.forward, _STATES, False)


def _by_name(encode: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
    signature = inspect.signature(encode)
    given = dict(signature.bind(*args, **kwargs).arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            given |= given.pop(name, {})
    return given
