"""Products with weights of eight or four bits, by the operators that torch has for a CPU.

A weight is (out, in). Eight bits: codes int8 (out, in) as they are, which all products read but
`dynamic`, and one scale float32 (out,) for each output. Four bits: in the operator's own order,
with a scale and a middle for each GROUP inputs.
"""

import warnings
from collections.abc import Callable, Sequence
from functools import cache

import torch

# See `has_dynamic`: it is done without once it is gone.
warnings.filterwarnings("ignore", message="torch.quantize_per_tensor, ")

Product = Callable[[torch.Tensor], torch.Tensor]
"""From (…, in) to (…, out), in the number format of the input."""

GROUP = 32
DYNAMIC_INPUTS = 512
_INT4_ROWS = 16  # outputs that the operator packs together; fewer it refuses
_INT4_BLOCK = 64  # outputs that lie mixed in memory: whole blocks can be put one after the other
_WIDE = 16  # inputs that `_weight_int8pack_mm` reads at once, also past the end of a row
_ROWS_AT_ONCE = 512  # of a weight, for temporaries that stay in the processor's caches
_SUMS_AT_ONCE = 400_000  # for the same reason
_LEAST = 1e-12  # of a scale: a row of zeros has one, too


def to_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The nearest codes, from -127 to 127, and their scales."""
    codes = torch.empty(weight.shape, dtype=torch.int8)
    scales = torch.empty(len(weight), dtype=torch.float32)
    for start in range(0, len(weight), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        scales[rows] = (weight[rows].abs().amax(1).float() / 127).clamp_(min=_LEAST)
        codes[rows] = torch.div(weight[rows], scales[rows, None]).round_()
    return codes, scales


def weight_only_fits(in_features: int) -> bool:
    """Whether `weight_only` reads nothing but the weight."""
    return in_features % _WIDE == 0


def weight_only(codes: torch.Tensor, scales: torch.Tensor) -> Product:
    """The weights become bfloat16 as they are read: fast for one row, slow for many."""
    product, (out_features, in_features) = torch._weight_int8pack_mm, codes.shape
    short_scales = scales.to(torch.bfloat16)

    def multiply(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, in_features).to(torch.bfloat16)  # in float32 it is 20 times as slow
        return product(rows, codes, short_scales).to(x.dtype).view(*x.shape[:-1], out_features)

    return multiply


def integer(codes: torch.Tensor, scales: torch.Tensor) -> Product:
    """The rows become int8 as well, each with a scale of its own: sums of whole numbers."""
    product, (out_features, in_features) = torch._int_mm, codes.shape
    columns, steps = codes.t(), scales / 127
    at_once = max(_SUMS_AT_ONCE // out_features, 64)

    def multiply(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, in_features)
        y = x.new_empty(len(rows), out_features)
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            largest = some.abs().amax(-1, keepdim=True).float().clamp_(min=_LEAST)  # (rows, 1)
            short = (some * (127 / largest)).round_().to(torch.int8)
            y[start : start + at_once] = product(short, columns).mul(steps).mul_(largest)
        return y.view(*x.shape[:-1], out_features)

    return multiply


def integer_row(codes: torch.Tensor, scales: torch.Tensor) -> Product:
    """`integer` for one row alone, in fewer steps."""
    product, (out_features, in_features) = torch._int_mm, codes.shape
    columns, steps = codes.t(), scales / 127

    def multiply(x: torch.Tensor) -> torch.Tensor:
        row = x.reshape(1, in_features)
        largest = row.abs().max().float().clamp_(min=_LEAST)
        short = (row * (127 / largest)).round_().to(torch.int8)
        y = product(short, columns).mul(steps * largest)
        return y.to(x.dtype).view(*x.shape[:-1], out_features)

    return multiply


def dynamic(codes: torch.Tensor, scales: torch.Tensor) -> Product:
    """As `integer`, by an operator that makes eight bits of the rows itself and has the weight in
    an order of its own, which is a copy of it."""
    weight = torch._make_per_channel_quantized_tensor(
        codes, scales.double(), torch.zeros(len(codes), dtype=torch.long), 0
    )
    packed = torch.ops.quantized.linear_prepack(weight, None)
    product, (out_features, in_features) = torch.ops.quantized.linear_dynamic.default, codes.shape
    ends = torch.tensor([1.0, -1.0])

    def multiply(x: torch.Tensor) -> torch.Tensor:
        if x.numel() == in_features:
            y: torch.Tensor = product(x.float(), packed)
            return y.to(x.dtype)
        # It has one scale for all rows, from the least to the largest number: so each is first made
        # as large as the others, and a row more has both ends. No row depends on those beside it.
        rows = x.reshape(-1, in_features)
        largest = rows.abs().amax(-1, keepdim=True).float().clamp_(min=_LEAST)
        alike = torch.zeros(len(rows) + 1, in_features)
        torch.div(rows, largest, out=alike[:-1])
        alike[-1, :2] = ends
        y = product(alike, packed)[:-1].mul_(largest)
        return y.to(x.dtype).view(*x.shape[:-1], out_features)

    return multiply


@cache
def has_dynamic() -> bool:
    """Whether `dynamic` is here and right: torch means to take its kind of tensor out."""
    most = torch.full((64, 64), 127, dtype=torch.int8)
    try:
        y = dynamic(most, torch.ones(64))(torch.ones(2, 64))
    except (AttributeError, RuntimeError):
        return False
    return bool((y - 127 * 64).abs().max() < 64)


def unpacked(codes: torch.Tensor, scales: torch.Tensor) -> Product:
    """The weights become numbers again, for the time of the product: for any CPU."""

    def multiply(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(x, codes.to(x.dtype)).mul_(scales)

    return multiply


@cache
def has_integers() -> bool:
    """Whether `integer` is right here: on x86 without VNNI, sums of two products may leave 16
    bits, and are cut."""
    most = torch.full((64, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(most, most.t()) == 127 * 127 * 64).all())


# Four bits -----------------------------------------------------------------------------------


def int4_fits(out_features: int, in_features: int) -> bool:
    """Whether the operator takes a weight of this size."""
    return out_features % _INT4_ROWS == 0 and in_features % GROUP == 0


def to_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two codes a byte, and (in / GROUP, out, 2) of scale and middle in bfloat16."""
    out_features, in_features = weight.shape
    packed = torch.empty(out_features, in_features // 2, dtype=torch.uint8)
    steps = torch.empty(in_features // GROUP, out_features, 2, dtype=torch.bfloat16)
    for start in range(0, out_features, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        groups = (
            weight[rows].float().view(-1, in_features // GROUP, GROUP)
        )  # (rows, in / GROUP, GROUP)
        low, high = torch.aminmax(groups, dim=2)
        # Rounded before the codes are counted in them.
        scales = ((high - low) / 15).clamp_(min=_LEAST).to(torch.bfloat16).float()
        middles = (low + 8 * scales).to(torch.bfloat16).float()
        codes = (groups - middles[..., None]).div_(scales[..., None]).round_().add_(8)
        whole = codes.clamp_(0, 15).flatten(1).to(torch.int32)
        packed[rows] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(whole, 1)
        steps[:, rows] = torch.stack((scales, middles), -1).transpose(0, 1).to(torch.bfloat16)
    return packed, steps


def int4(packed: torch.Tensor, steps: torch.Tensor) -> Product:
    """The weights become bfloat16 as they are read, for one row as for many."""
    product = torch.ops.aten._weight_int4pack_mm_for_cpu.default
    out_features, in_features = steps.shape[1], steps.shape[0] * GROUP

    def multiply(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, in_features).to(torch.bfloat16)  # in float32 it is far slower
        y: torch.Tensor = product(rows, packed, GROUP, steps)
        return y.to(x.dtype).view(*x.shape[:-1], out_features)

    return multiply


def joined_int4(
    parts: Sequence[tuple[torch.Tensor, torch.Tensor]],
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Weights with the same inputs, one above the other; None where their memory is mixed."""
    if any(len(packed) % _INT4_BLOCK for packed, _ in parts):
        return None
    packed, steps = zip(*parts, strict=True)
    return torch.cat(packed), torch.cat(steps, 1)
