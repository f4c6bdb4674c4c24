"""What a model saw in a picture, kept on the disk: a second question about it skips the encoder.

Whatever asks the model goes through its encoder, so that is where features are kept. The key is a
digest of all that makes them what they are, the very pixels among it. A family that gives what
cannot be kept is left as it is.

Pictures that a prompt has side by side are encoded one by one: each may be known or not, and what
is kept of one must not depend, if only by a rounding, on what was beside it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Thread
from typing import Any

import torch
import transformers

from vlmcli import caches, output
from vlmcli.backends.local import encoders, featurefile, pieces, pixels
from vlmcli.backends.local.encoders import Encoder, Known
from vlmcli.backends.local.inputs import REFUSALS
from vlmcli.backends.local.pieces import Given, Split
from vlmcli.backends.local.pixels import Inputs
from vlmcli.caches import Shelf
from vlmcli.device import Device
from vlmcli.errors import OutputError
from vlmcli.messages import Done
from vlmcli.models import files
from vlmcli.settings import Settings

_VERSION = 1
_PATIENCE_S = 1.0
"""How long the end of an answer waits for a slow disk."""


@dataclass(slots=True)
class Features:
    """What one loaded model saw, now and before.

    `made_by` tells all but the inputs that features depend on. `complain` is told once why nothing
    can be written. Where `shelf` is None the model stays as it is.
    """

    model: Any
    shelf: Shelf | None
    made_by: Callable[[], tuple[str, ...]]
    complain: Callable[[str], None]
    _views: Sequence[int] | None = field(default=None, init=False)
    _rows: int = field(default=1, init=False)
    _asked: int = field(default=0, init=False)
    _found: int = field(default=0, init=False)
    _writer: Thread | None = field(default=None, init=False)
    _made: "Future[tuple[str, ...]]" = field(default_factory=Future, init=False)

    def __post_init__(self) -> None:
        if self.shelf is not None:
            encoders.watch(self.model, partial(self._look_up, self.shelf))
            # Files of a model are read for it; the first picture is prepared meanwhile.
            with_one_thread = ThreadPoolExecutor(1)
            self._made = with_one_thread.submit(self.made_by)
            with_one_thread.shutdown(wait=False)

    @contextmanager
    def answering(self, views: Sequence[int], rows: int = 1) -> Iterator[Callable[[Done], Done]]:
        """While a prompt is answered, with so many views of each picture; gives what tells the end
        about them.

        Of so many `rows` side by side pictures are kept where each can be told from the others. At
        any other time they are encoded as they come.
        """
        self._views, self._rows, self._asked, self._found = views, rows, 0, 0

        def told(done: Done) -> Done:
            if self._writer is not None:
                self._writer.join(_PATIENCE_S)
            return replace(done, features=self._asked, cached_features=self._found)

        try:
            yield told
        finally:
            self._views = None

    def _look_up(self, shelf: Shelf, encoder: Encoder, given: Inputs) -> Any | None:
        if self._views is None:  # not this time, but the next one may be kept
            return encoder.encode(**given)
        split = pieces.split(given, self._views) if encoder.splits else Split((given,))
        if len(split.parts) < self._rows:  # what is kept would depend on all of them
            return encoder.encode(**given)
        keys: list[str] = []
        known: dict[str, Given] = {}
        made: dict[str, Given] = {}
        whole = None
        for part in split.parts:
            if (key := self._key(encoder, part)) is None:
                return None
            keys.append(key)
            if key in known:  # the same picture twice
                continue
            if (one := self._read(shelf, key)) is None:
                try:
                    whole = encoder.encode(**part)
                except REFUSALS:
                    if len(split.parts) == 1:
                        raise
                    return None  # one by one it does not take them
                if (one := encoder.taken(whole)) is None:
                    return None
                made[key] = one
            known[key] = one
        together = pieces.joined([known[key] for key in keys], batched=split.batched)
        if together is None:
            return None
        self._write(shelf, made)
        self._asked += len(known)
        self._found += len(known) - len(made)
        return (
            whole if len(keys) == 1 and made else Known(together, partial(_again, encoder, given))
        )

    def _key(self, encoder: Encoder, given: Inputs) -> str | None:
        """The name of what comes of these inputs; None if they cannot be told from others."""
        try:
            about: list[Any] = [_VERSION, encoder.name, *self._made.result()]
            for name, value in sorted(given.items()):
                if isinstance(value, torch.Tensor):
                    shape, numbers = pixels.mark(value)
                    about.append([name, str(value.dtype), [*shape], numbers.hex()])
                elif value is not None and name != "return_dict":
                    about.append([name, value])
            return hashlib.sha256(json.dumps(about).encode()).hexdigest()
        except (TypeError, OSError):  # nothing that JSON knows; the files of the model are gone
            return None

    def _read(self, shelf: Shelf, key: str) -> Given | None:
        data = shelf.read(key)
        return None if data is None else featurefile.unpack(data, self.model.device)

    def _write(self, shelf: Shelf, made: dict[str, Given]) -> None:
        """On a thread: no answer waits for a disk, unless it is at its end and the disk is not."""
        if not made or (self._writer is not None and self._writer.is_alive()):
            return

        def write() -> None:
            try:
                for key, given in made.items():
                    with suppress(featurefile.NotFiniteError):
                        shelf.write(key, featurefile.pack(given))
            except OutputError as error:
                complain, self.complain = self.complain, _silent
                complain(str(error))

        self._writer = Thread(target=write, daemon=True)
        self._writer.start()


def of(
    model: Any, weights: Callable[[], str], device: Device, quantized: str, settings: Settings
) -> Features:
    """What a loaded model saw, if that is to be kept; `weights` tells its files from all others."""
    shelf = caches.Shelf(caches.features_folder(), files.SAFE, settings.max_cache_bytes)
    complain = output.note if settings.verbose else _silent
    made_by = partial(_made_by, model, weights, device, quantized)
    return Features(model, shelf if settings.cache else None, made_by, complain)


def _again(encoder: Encoder, given: Inputs) -> Any:
    encoder.fits = False  # something is read of it that is not kept: it takes as long as without
    return encoder.encode(**given)


def _made_by(
    model: Any, weights: Callable[[], str], device: Device, quantized: str
) -> tuple[str, ...]:
    kind = device.name.partition(":")[0]
    accelerator = kind == "cuda" and torch.cuda.get_device_name(device.name)
    return (
        weights(),
        device.dtype_name,
        quantized,
        kind,
        # Other instructions, or another GPU, round otherwise.
        accelerator or torch.backends.cpu.get_cpu_capability(),
        str(model.config._attn_implementation),
        torch.__version__,
        transformers.__version__,
    )


def _silent(_: str) -> None:
    pass
