"""How long one linear layer takes with each kernel, as ratios to bfloat16: more is faster.

python tests/bench/linear_kernels.py [THREADS]

The shapes are those of SmolVLM-256M: of its text model alone and joined, of its eye, its head.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from vlmcli.cpu import kernels

SHAPES = (
    (576, 576),
    (960, 576),
    (3072, 576),
    (576, 1536),
    (768, 768),
    (3072, 768),
    (768, 3072),
    (49280, 576),
)
ROWS = (1, 4, 16, 64, 256, 1024)
MOST_PRODUCTS = 2e9  # of one call
LEAST_S, ROUNDS = 0.05, 5


def main() -> None:
    if len(sys.argv) > 1:
        torch.set_num_threads(int(sys.argv[1]))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with torch.inference_mode():
        for shape in SHAPES:
            products = products_of(*shape)
            print(f"\n{shape[0]} x {shape[1]:<6}", *(f"{name:>12}" for name in products))
            for rows in ROWS:
                if rows * shape[0] * shape[1] < MOST_PRODUCTS:
                    row(rows, shape[1], products)


def products_of(out_features: int, in_features: int) -> dict[str, Callable[..., torch.Tensor]]:
    weight = torch.randn(out_features, in_features) * 0.05
    codes = kernels.to_int8(weight)
    short = weight.bfloat16()
    return {
        "bfloat16": lambda x: torch.nn.functional.linear(x, short),
        "float32": lambda x: torch.nn.functional.linear(x.float(), weight),
        "weight-only": kernels.weight_only(*codes),
        "integer": kernels.integer(*codes),
        "integer row": kernels.integer_row(*codes),
        "unpacked": kernels.unpacked(*codes),
        "int4": kernels.int4(*kernels.to_int4(weight)),
    }


def row(rows: int, in_features: int, products: dict[str, Callable[..., torch.Tensor]]) -> None:
    x = torch.randn(rows, in_features).bfloat16()
    fit = {name: one for name, one in products.items() if rows == 1 or name != "integer row"}
    seconds: dict[str, list[float]] = {name: [] for name in fit}
    for _ in range(ROUNDS):  # in turns: what else runs here then disturbs all alike
        for name, product in fit.items():
            product(x)
            seconds[name].append(least(product, x))
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    base = medians.pop("bfloat16")
    told = [f"{base / medians[n]:>12.2f}" if n in medians else " " * 12 for n in products][1:]
    print(f"{rows:>6} rows   {1e6 * base:>9.0f} us", *told, flush=True)


def least(product: Callable[..., torch.Tensor], x: torch.Tensor) -> float:
    best, until = float("inf"), time.perf_counter() + LEAST_S / ROUNDS
    while time.perf_counter() < until or best == float("inf"):
        started = time.perf_counter()
        product(x)
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
