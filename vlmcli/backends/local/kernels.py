"""Linear layers whose weights are codes of eight or four bits, on a CPU."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import torch
from torch import nn

from vlmcli import cpu
from vlmcli.cpu import kernels, measuring
from vlmcli.cpu.kernels import Product
from vlmcli.cpu.measuring import DYNAMIC, ROWS


class PackedLinear(nn.Module, ABC):
    """What `nn.Linear` computes, nearly: from (…, in) to (…, out), in the input's number format.

    `weight` is empty: models ask it for its number format and its device. Layers with the same
    input can be `joined`; what the whole computes for one of them, the others then take their part
    of.
    """

    def __init__(
        self, out_features: int, in_features: int, bias: torch.Tensor | None, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = out_features, in_features
        self.weight = torch.empty(0, dtype=dtype)
        self.bias = bias
        self._weights: tuple[torch.Tensor, torch.Tensor] | None = None
        self._row: Product | None = None
        self._rows: Product | None = None
        self._part: Product | None = None

    @classmethod
    @abstractmethod
    def joined(cls, layers: Sequence[Self]) -> Self | None:
        """One layer that gives the outputs of several side by side; they hold no weights of their
        own any more, and do as they did. None where they cannot be joined."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._part is not None:
            return self._part(x)
        if self._row is None:
            self._make_products()
        multiply = self._row if x.numel() == self.in_features else self._rows
        assert multiply is not None
        y = multiply(x)
        return y if self.bias is None else y.add_(self.bias)

    @abstractmethod
    def _make_products(self) -> None:
        """Set `_row` and `_rows`."""

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"

    def _take_from(self, part: Product) -> None:
        """Compute nothing any more."""
        self._part = part
        self._row = self._rows = self._weights = self.bias = None


class Int8Linear(PackedLinear):
    """Eight bits a weight, and a scale for each output."""

    def __init__(
        self,
        codes: torch.Tensor,
        scales: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        """Of codes int8 (out, in) and scales float32 (out,); `dtype` is that of most inputs."""
        super().__init__(codes.shape[0], codes.shape[1], bias, dtype)
        self._weights = codes, scales

    def _make_products(self) -> None:
        """By the kernels that are fastest; no sooner than needed, or layers that are joined would
        have been packed in vain."""
        assert self._weights is not None
        one, many = (
            cpu.speeds().kernel(self.out_features, self.in_features, self.weight.dtype, rows)
            for rows in ROWS
        )
        if many == DYNAMIC:  # it has a copy of the weight, beside which none is to be held
            self._row = self._rows = measuring.int8(ROWS[1])[many](*self._weights)
            self._weights = None
        else:
            self._row = measuring.int8(ROWS[0])[one](*self._weights)
            self._rows = measuring.int8(ROWS[1])[many](*self._weights)

    @classmethod
    def joined(cls, layers: Sequence[Self]) -> Self | None:
        if not _alike(layers):
            return None
        codes, scales = (torch.cat(parts) for parts in zip(*_weights(layers), strict=True))
        whole = cls(codes, scales, _joined_bias(layers), layers[0].weight.dtype)
        _divide(whole, layers)
        return whole


class Int4Linear(PackedLinear):
    """Four bits a weight, and a scale and a middle for each `kernels.GROUP` inputs."""

    def __init__(
        self,
        packed: torch.Tensor,
        steps: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
    ) -> None:
        """Of what `kernels.to_int4` gives; `dtype` is that of most inputs."""
        super().__init__(steps.shape[1], steps.shape[0] * kernels.GROUP, bias, dtype)
        self._weights = packed, steps

    def _make_products(self) -> None:
        assert self._weights is not None
        self._row = self._rows = kernels.int4(*self._weights)

    @classmethod
    def joined(cls, layers: Sequence[Self]) -> Self | None:
        if not _alike(layers) or (both := kernels.joined_int4(_weights(layers))) is None:
            return None
        whole = cls(*both, _joined_bias(layers), layers[0].weight.dtype)
        _divide(whole, layers)
        return whole


def _alike(layers: Sequence[PackedLinear]) -> bool:
    """Whether layers can be joined: one kind of input, biases for all or none, and their weights
    still as they were."""
    kinds = {(type(one), one.in_features, one.weight.dtype, one.bias is None) for one in layers}
    return len(kinds) == 1 and all(one._weights is not None for one in layers)


def _weights(layers: Sequence[PackedLinear]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [one._weights for one in layers if one._weights is not None]


def _joined_bias(layers: Sequence[PackedLinear]) -> torch.Tensor | None:
    biases = [one.bias for one in layers if one.bias is not None]
    return torch.cat(biases) if biases else None


class _Outputs:
    """What a joined layer gave for one input, until each of its parts has been taken."""

    def __init__(self, whole: PackedLinear, count: int) -> None:
        self._whole, self._count = whole, count
        self._left = 0
        self._x: torch.Tensor | None = None
        self._y: torch.Tensor | None = None

    def part(self, start: int, end: int) -> Product:
        """The outputs of one of the layers, from `start` to before `end`."""

        def take(x: torch.Tensor) -> torch.Tensor:
            if self._y is None or x is not self._x:
                self._y = self._whole.forward(x)
                self._x, self._left = x, self._count
            y = self._y[..., start:end]
            self._left -= 1
            if not self._left:
                self._x = self._y = None
            return y

        return take


def _divide(whole: PackedLinear, layers: Sequence[PackedLinear]) -> None:
    """Each of the layers is a part of `whole` from now on."""
    outputs, start = _Outputs(whole, len(layers)), 0
    for layer in layers:
        end = start + layer.out_features
        layer._take_from(outputs.part(start, end))
        start = end
