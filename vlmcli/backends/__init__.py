"""The one contract: a backend is a module with `load(settings) -> Engine`."""

import gc
import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from threading import Thread
from typing import TYPE_CHECKING, overload

from vlmcli import output, phases
from vlmcli.errors import VlmError
from vlmcli.messages import Answer, Chosen, Chunk, Message, Sampling, Verdict
from vlmcli.settings import Settings

if TYPE_CHECKING:
    from types import ModuleType

# A backend is imported when it is picked: an endpoint needs no torch.
BACKENDS = {"local": "vlmcli.backends.local.engine"}


@dataclass(frozen=True, slots=True)
class FrameBudget:
    """How many frames of a clip a model is shown if the user does not say: at most `frames`, and no
    more than `fps` a second."""

    frames: int = 16
    fps: float = 2.0


@dataclass(frozen=True, slots=True)
class ImagePreview:
    """What a model would see of one image; sizes are (width, height) in pixels.

    `resized` is the size of one tile; None where the processor says nothing that can be read.
    """

    name: str
    size: tuple[int, int]
    resized: tuple[int, int] | None
    tiles: int | None
    image_tokens: int | None


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be sent to a model: the exact prompt text, and what each image becomes.

    A clip is one of the images, whose size is that of a frame.
    """

    prompt: str
    prompt_tokens: int
    images: tuple[ImagePreview, ...]


class Prepared(Sequence[Message]):
    """A conversation whose `inputs` a backend has made; `nbytes` is the memory that they take."""

    def __init__(self, conversation: Sequence[Message], inputs: object, nbytes: int) -> None:
        self._conversation = conversation
        self.inputs, self.nbytes = inputs, nbytes

    def __len__(self) -> int:
        return len(self._conversation)

    @overload
    def __getitem__(self, at: int) -> Message: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Message]: ...
    def __getitem__(self, at: int | slice) -> Message | Sequence[Message]:
        return self._conversation[at]


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded model. `generate` answers one conversation and streams: Thought, …, Delta, …, Done.

    Closing the iterator stops the work at the next token. `revision` is the commit of a model from
    the Hub; `why` tells the choice of the device, `note` what is to be known of that of the model.
    `preview` shows what `generate` would give the model, which reads at most `context_tokens`, its
    answer among them; both are None where a backend cannot tell. `affirm` reads whether a model
    would answer yes or no from its own next-token probabilities, `choose` which of some texts it
    would answer; both are None where a backend cannot. `fingerprint` tells the files of a model
    without a revision from all others; `packages` names those of Python whose versions its answers
    may depend on. `generate_many` answers conversations in batches and in order, as `affirm_many`
    does for yes and no; both are None where a backend cannot. An error stands in the place of an
    answer that there is not. It is best to give them `most_together` at once. `prepare` does, on
    any thread, what they would do with a conversation first; what it returns is given to them in
    its place, and has no pixels any more. `quantize` is none, int8 or int4: what the weights
    became as they were loaded; `dtype` is that of all else.
    """

    model: str
    device: str
    dtype: str
    generate: Callable[[Sequence[Message], Sampling], Iterator[Chunk]]
    revision: str | None = None
    why: str = ""
    note: str = ""
    budget: Callable[[], FrameBudget] = FrameBudget
    preview: Callable[[Sequence[Message]], Preview] | None = None
    context_tokens: int | None = None
    affirm: Callable[[Sequence[Message]], Verdict] | None = None
    choose: Callable[[Sequence[Message], Sequence[str]], Chosen] | None = None
    fingerprint: Callable[[], str] | None = None
    packages: tuple[str, ...] = ()
    quantize: str = "none"
    generate_many: (
        Callable[[Iterable[Sequence[Message]], Sampling], Iterator[Answer | VlmError]] | None
    ) = None
    affirm_many: Callable[[Iterable[Sequence[Message]]], Iterator[Verdict | VlmError]] | None = None
    prepare: Callable[[Sequence[Message]], Prepared] | None = None
    most_together: int = 1

    @property
    def weights(self) -> str | None:
        """What tells its weights from others of its name: the commit, or else the fingerprint."""
        return self.revision or (self.fingerprint() if self.fingerprint else None)

    @property
    def label(self) -> str:
        weights = "" if self.quantize == "none" else f", {self.quantize} weights"
        return f"{self.model} on {self.device}, {self.dtype}{weights}"


@dataclass(frozen=True, slots=True)
class Reader:
    """A model without its weights: `preview` shows what `Engine.generate` would give it."""

    model: str
    revision: str | None
    budget: Callable[[], FrameBudget]
    preview: Callable[[Sequence[Message]], Preview]


def load(settings: Settings) -> Engine:
    """The model that the settings name, ready to answer. Raises ModelError or DeviceError."""
    with output.status("starting"):
        backend = _backend("local")
    engine: Engine = backend.load(settings)
    return engine


def begin() -> None:
    """Begin to import what models run on, which takes seconds, beside what else is to be done.

    To be called when it is sure that there is something to ask about.
    """
    _importing("local")


def start() -> None:
    """Import what models run on before something is timed."""
    _backend("local")


def read(settings: Settings) -> Reader:
    """The model that the settings name, without its weights. Raises ModelError."""
    reader: Reader = _backend("local").read(settings)
    return reader


def identify(settings: Settings) -> tuple[str, str | None]:
    """`Engine.model` and `Engine.weights` of what `load` would load. Raises ModelError."""
    model, weights = _backend("local").identify(settings)
    return model, weights


def _backend(name: str) -> "ModuleType":
    imports = _importing(name)
    while imports.is_alive():  # an import cannot be interrupted everywhere; this can
        imports.join(0.1)
    return importlib.import_module(BACKENDS[name])  # raises what it raised there


@cache
def _importing(name: str) -> Thread:
    def work() -> None:
        # What is wrong is told by whoever needs the module and imports it again.
        with phases.noted("imports"), uncollected(), suppress(BaseException):
            importlib.import_module(BACKENDS[name])
            gc.freeze()  # thousands of modules: neither looked through nor taken apart at the end

    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


@contextmanager
def uncollected() -> Iterator[None]:
    """Garbage is not looked for meanwhile: almost nothing of what is loaded is any."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
