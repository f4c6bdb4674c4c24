"""Less to import for torch and transformers: what they ask for, and this program never uses.

Half of their imports' time goes into torch's compiler, the algebra of shapes that are not known
yet, and tensors that are spread over machines. For the first two something stands in, and they are
imported as soon as anything is asked of them that their stand-in does not know. Of the third,
transformers is told that this torch was built without it.
"""

import functools
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from threading import Lock
from types import ModuleType
from typing import Any
from unittest import mock

COMPILER = "torch._dynamo"
_INDEXING = f"{COMPILER}._trace_wrapped_higher_order_op"
SHAPES = "torch.fx.experimental.symbolic_shapes"


def stand_in_for_compiler() -> None:
    """Put a stand-in where the compiler is looked for, unless it is imported already.

    To be called before torch or transformers is imported.
    """
    # Torch's folder and not torch: what it lacks or what is wrong with it shows where it is used.
    torch = importlib.util.find_spec("torch")
    if spec := _missing(COMPILER, torch.submodule_search_locations if torch else None):
        sys.modules[COMPILER] = _Compiler(spec)
        sys.modules[_INDEXING] = _Indexing(_INDEXING)


def stand_in_for_shapes() -> None:
    """As for the compiler; torch has to be imported by then."""
    parent, _, name = SHAPES.rpartition(".")
    package = importlib.import_module(parent)
    if spec := _missing(SHAPES, package.__path__):
        shapes = _Shapes(spec)
        sys.modules[SHAPES] = shapes
        setattr(package, name, shapes)


def without_spread_tensors() -> None:
    """Have transformers do without torch.distributed, as where torch was built without it.

    It asks torch once and keeps the answer; nobody else is answered so.
    """
    import torch  # not at the top: the stand-in has to come first

    with mock.patch.object(torch.distributed, "is_available", return_value=False):
        from transformers.utils import is_torch_distributed_available

        is_torch_distributed_available()


def _missing(name: str, folders: Sequence[str] | None) -> ModuleSpec | None:
    """What imports a module from one of the folders; None if it is imported, or not there."""
    return PathFinder.find_spec(name, folders) if folders and name not in sys.modules else None


class _StandIn(ModuleType):
    """Imports the module when something is asked of it that is not known here."""

    beside: tuple[str, ...] = ()
    """Modules inside it that are stood in for as well."""

    _swapping = Lock()

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec.name)
        # What goes through all modules, as `inspect` does, looks at these two.
        self.__spec__, self.__file__ = spec, spec.origin

    def __getattr__(self, name: str) -> Any:
        # The path is asked for by an import from within; other such names are asked of any module.
        packed = self.__spec__ is not None and self.__spec__.submodule_search_locations is not None
        if name.startswith("__") and not (name == "__path__" and packed):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(self.real(), name)

    @property
    def stands(self) -> bool:
        """Whether the module has not been imported yet."""
        return sys.modules.get(self.__name__) is self

    def real(self) -> ModuleType:
        """The module, imported into the place of this."""
        with self._swapping:
            if swapped := self.stands:
                for name in (self.__name__, *self.beside):
                    del sys.modules[name]
        module = importlib.import_module(self.__name__)
        if swapped:
            self.hand_over(module)
        return module

    def hand_over(self, module: ModuleType) -> None:
        """Tell the module what was asked of this before."""


class _Compiler(_StandIn):
    """For `torch._dynamo`, of which marks on functions are used.

    They say how a function is compiled; what it computes is the same.
    """

    beside = (_INDEXING,)

    def __init__(self, spec: ModuleSpec) -> None:
        super().__init__(spec)
        self._marked: list[tuple[str, Callable[..., Any]]] = []

    def assume_constant_result(self, function: Any) -> Any:
        self._marked.append(("assume_constant_result", function))
        return function

    def allow_in_graph(self, function: Any) -> Any:
        self._marked.append(("allow_in_graph", function))
        return function

    def disable(self, function: Any = None, *how: Any, **more: Any) -> Any:
        """The function, left out of what is compiled from when there is something to compile it."""
        if function is None:
            return lambda function: self.disable(function, *how, **more)
        left_out: list[Any] = []

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            if self.stands:
                return function(*arguments, **named)
            if not left_out:
                left_out.append(self.real().disable(function, *how, **more))
            return left_out[0](*arguments, **named)

        return call

    def hand_over(self, module: ModuleType) -> None:
        for mark, function in self._marked:
            getattr(module, mark)(function)


class _Indexing(ModuleType):
    """For the module of the compiler that transformers takes a class from by name."""

    def TransformGetItemToIndex(self) -> Any:  # noqa: N802 - its name in torch
        compiler = sys.modules[COMPILER]
        if isinstance(compiler, _StandIn):
            compiler.real()
        return importlib.import_module(_INDEXING).TransformGetItemToIndex()


class _Shapes(_StandIn):
    """For torch's algebra of shapes, which each of torch's own checks asks whether it holds."""

    def expect_true(self, condition: Any, skip: int = 0) -> Any:
        if type(condition) is bool:
            return condition
        return self.real().expect_true(condition, skip + 1)
