"""What this CPU multiplies fastest: measured once on a machine, and kept in the cache folder."""

import hashlib
import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import geometric_mean

import torch

from vlmcli import caches, writing
from vlmcli.cpu import kernels, measuring, worker
from vlmcli.cpu.measuring import DTYPES, INTEGER, PLAIN, ROWS, SIZES, WEIGHT_ONLY, Times
from vlmcli.errors import OutputError

CLEAR = 1.3
"""How many times as fast a number format has to be for the measurement to decide."""

_HANDICAP = {measuring.UNPACKED: CLEAR}  # it takes memory each time, and its gain is to be clear


@dataclass(frozen=True, slots=True)
class Speeds:
    """What was measured."""

    times: Times

    def ratio(self, one: torch.dtype, other: torch.dtype) -> float:
        """How many times as fast plain products are in one number format as in another."""
        return geometric_mean(
            b / a
            for rows in ROWS
            for a, b in zip(self._of(PLAIN, one, rows), self._of(PLAIN, other, rows), strict=True)
        )

    def int8_gain(self, dtype: torch.dtype, rows: int) -> float:
        """How many times as fast layers of eight bits are as plain ones, both with inputs in
        `dtype`, `rows` of them."""
        return geometric_mean(
            plain / self._of(self.kernel(*size, dtype, rows), dtype, rows)[index]
            for index, (size, plain) in enumerate(
                zip(SIZES, self._of(PLAIN, dtype, rows), strict=True)
            )
        )

    def in_words(self, dtype: torch.dtype) -> str:
        """What eight bits gain beside `dtype`, and by which kernels."""
        used = [sorted({self.kernel(*size, dtype, rows) for size in SIZES}) for rows in ROWS]
        one, many = (
            f"{self.int8_gain(dtype, rows):.1f} times as fast ({' and '.join(kernels)})"
            for rows, kernels in zip(ROWS, used, strict=True)
        )
        return f"{str(dtype).removeprefix('torch.')}: writes {one}, reads {many}"

    def kernel(self, out_features: int, in_features: int, dtype: torch.dtype, rows: int) -> str:
        """The fastest of `measuring.int8` that can multiply so many rows by a weight of this size,
        which is taken for that of SIZES which it is most like."""
        weights = out_features * in_features
        size = min(range(len(SIZES)), key=lambda i: abs(math.log(weights / math.prod(SIZES[i]))))
        can = {WEIGHT_ONLY: kernels.weight_only_fits(in_features), INTEGER: kernels.has_integers()}
        return min(
            (name for name in measuring.int8(rows) if can.get(name, True)),
            key=lambda name: self._of(name, dtype, rows)[size] * _HANDICAP.get(name, 1),
        )

    def _of(self, kernel: str, dtype: torch.dtype, rows: int) -> tuple[float, ...]:
        known = str(dtype).removeprefix("torch.")
        # float16 is asked for by name, and seldom on a CPU.
        return self.times[measuring.key(kernel, known if known in DTYPES else "float32", rows)]


def speeds() -> Speeds:
    """What was measured on this machine with as many threads as there are, now or before."""
    return _speeds(worker.threads())


@cache
def _speeds(threads: int) -> Speeds:
    machine = {
        "torch": str(torch.__version__),
        "threads": threads,
        "cpu": dict(sorted(torch.cpu.get_capabilities().items())),
    }
    file = caches.folder() / f"kernels-{_digest(machine)}.json"
    if (found := _kept(file, machine)) is not None:
        return found
    times = _on_a_thread(measuring.measure)
    with suppress(OutputError):  # then it is measured each time
        text = json.dumps({"machine": machine, "microseconds": times}, indent=1)
        writing.write_private(file, text.encode())
    return Speeds(times)


def _on_a_thread(work: Callable[[], Times]) -> Times:
    """The threads that torch keeps for it end with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


def forget() -> None:
    """Look into the cache folder again when `speeds` is next asked for."""
    _speeds.cache_clear()


def _digest(machine: object) -> str:
    return hashlib.sha256(json.dumps(machine).encode()).hexdigest()[:16]


def _kept(file: Path, machine: object) -> Speeds | None:
    """What a file holds, if it is whole and of this machine."""
    try:
        found = json.loads(file.read_bytes())
        times = {str(name): tuple(map(float, us)) for name, us in found["microseconds"].items()}
        known = found["machine"] == machine and times.keys() == measuring.names()
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    whole = known and all(len(us) == len(SIZES) for us in times.values())
    sound = all(0 < time < math.inf for us in times.values() for time in us)
    return Speeds(times) if whole and sound else None
