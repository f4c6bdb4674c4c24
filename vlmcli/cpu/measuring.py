"""How long products take here, in every number format and with every kernel, by the clock."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache

import torch

from vlmcli.cpu import kernels, worker
from vlmcli.cpu.kernels import Product

SIZES = ((512, 512), (1024, 1024), (3072, 1024))
"""Weights (out, in): one where a call costs most, one between, and one that has to be read."""

ROWS = (1, 16)
"""Decoding reads one row at a time, a batch some, a prompt or a picture many; what is fastest for
16 is fast for more, and not the other way round."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Maker = Callable[[torch.Tensor, torch.Tensor], Product]
"""Of codes and scales, the product."""

PLAIN, WEIGHT_ONLY, INTEGER, UNPACKED = "plain", "weight-only", "integer", "unpacked"
DYNAMIC = "dynamic"

_INT8: Mapping[int, Mapping[str, Maker]] = {
    1: {WEIGHT_ONLY: kernels.weight_only, INTEGER: kernels.integer_row, UNPACKED: kernels.unpacked},
    16: {INTEGER: kernels.integer, UNPACKED: kernels.unpacked},
}

Times = Mapping[str, tuple[float, ...]]
"""By `key(kernel, dtype, rows)`: microseconds, one for each of SIZES."""

_FINE_S = 1e-7
_OWN_TIME = (  # in which the thread was not interrupted; on Windows it comes in steps of 16 ms
    time.thread_time
    if time.get_clock_info("thread_time").resolution <= _FINE_S
    else time.perf_counter
)
_LEAST_ROUNDS, _ROUNDS = 1, 10
_LONGEST_S = 0.005  # of one kernel at one size: what is slow need not be known exactly


@cache
def int8(rows: int) -> Mapping[str, Maker]:
    """The kernels for weights of eight bits that there are here, for one of ROWS, by name."""
    dynamic = {DYNAMIC: kernels.dynamic} if kernels.has_dynamic() else {}
    return {**_INT8[rows], **dynamic}


def key(kernel: str, dtype: str, rows: int) -> str:
    return f"{kernel} {dtype} {rows}"


def names() -> frozenset[str]:
    """The keys of what `measure` gives."""
    return frozenset(
        key(name, dtype, rows) for dtype in DTYPES for rows in ROWS for name in (PLAIN, *int8(rows))
    )


def measure() -> Times:
    """The least time of a few of every product that there is; about a tenth of a second in all.

    With one thread and with all: where others use the cores, all wait for the last, and say
    nothing of the kernel.
    """
    threads = worker.threads()
    found: dict[str, list[float]] = {}
    with torch.inference_mode():
        for size in SIZES:
            products = dict(_products(*size))
            best = dict.fromkeys(products, math.inf)
            try:
                for count in sorted({1, threads}):
                    torch.set_num_threads(count)
                    _lower(best, products, _OWN_TIME if count == 1 else time.perf_counter)
            finally:
                torch.set_num_threads(1)  # also for threads to come; see worker
            for name, seconds in best.items():
                found.setdefault(name, []).append(round(1e6 * seconds, 2))
    return {name: tuple(times) for name, times in found.items()}


def _products(
    out_features: int, in_features: int
) -> Iterator[tuple[str, tuple[Product, torch.Tensor]]]:
    """Each with what it shall be given. What is in a weight does not change what it costs."""
    codes, scales = (
        torch.ones(out_features, in_features, dtype=torch.int8),
        torch.ones(out_features),
    )
    for name, dtype in DTYPES.items():
        linear = _linear(torch.ones(out_features, in_features, dtype=dtype))
        for rows in ROWS:
            x = torch.ones(rows, in_features, dtype=dtype)
            yield key(PLAIN, name, rows), (linear, x)
            for kernel, make in int8(rows).items():
                yield key(kernel, name, rows), (make(codes, scales), x)


def _linear(weight: torch.Tensor) -> Product:
    return lambda x: torch.nn.functional.linear(x, weight)


def _lower(
    best: dict[str, float],
    products: Mapping[str, tuple[Product, torch.Tensor]],
    now: Callable[[], float],
) -> None:
    """Put the least seconds of each into `best`; in turns, for others to disturb all alike."""
    spent = dict.fromkeys(products, 0.0)
    for turn in range(1 + _ROUNDS):
        for name, (product, x) in products.items():
            if turn > _LEAST_ROUNDS and spent[name] > _LONGEST_S:
                continue
            started = now()
            product(x)
            seconds = now() - started
            spent[name] += seconds
            if turn:  # in the first it makes its code and its threads
                best[name] = min(best[name], seconds)
