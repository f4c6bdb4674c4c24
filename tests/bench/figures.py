"""What was measured, beside what it is measured against, as a table and as JSON."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version

import psutil

PACKAGES = ("vlmcli", "torch", "transformers", "pillow", "tokenizers")


@dataclass(frozen=True, slots=True)
class Figure:
    """One comparison: medians of runs that took turns, so that the ratio holds on a busy machine.

    `ratio` is how many times better ours is; `aim` what it ought to be at least, None if nothing is
    promised. `ours` and `theirs` are all runs, in `unit`; theirs are none where ours is compared
    with a number.
    """

    what: str
    against: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...] = ()
    more_is_better: bool = False
    aim: float | None = None
    most: float | None = None  # of ours, where there is nothing to compare it with
    ratio: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.theirs:
            ours, theirs = statistics.median(self.ours), statistics.median(self.theirs)
            ratio = ours / theirs if self.more_is_better else theirs / ours
            object.__setattr__(self, "ratio", ratio)

    @property
    def verdict(self) -> str:
        """Whether the aim was met, in a word; nothing where there is none."""
        if self.aim is not None and self.ratio is not None:
            return f"aim {self.aim:g}x: {'met' if self.ratio >= self.aim else 'MISSED'}"
        if self.most is not None:
            met = statistics.median(self.ours) <= self.most
            return f"aim {self.most:g} {self.unit}: {'met' if met else 'MISSED'}"
        return ""


def in_turn(runs: int, *ways: Callable[[], float]) -> list[tuple[float, ...]]:
    """What each way gives, `runs` times, one after the other in each round."""
    rounds = [[way() for way in ways] for _ in range(runs)]
    return [tuple(column) for column in zip(*rounds, strict=True)]


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start_s = time.perf_counter()
    work()
    return time.perf_counter() - start_s


def table(figures: list[Figure]) -> str:
    """Markdown, as the README carries it."""
    lines = ["| | vlm | against | ratio | |", "|---|---|---|---|---|"]
    for one in figures:
        theirs = f"{one.against}: {_shown(one.theirs, one.unit)}" if one.theirs else one.against
        ratio = "" if one.ratio is None else f"{one.ratio:.1f}x"
        ours = _shown(one.ours, one.unit)
        lines.append(f"| {one.what} | {ours} | {theirs} | {ratio} | {one.verdict} |")
    return "\n".join(lines)


def _shown(values: tuple[float, ...], unit: str) -> str:
    median = statistics.median(values)
    spread = f" ({min(values):.3g} to {max(values):.3g})" if len(values) > 1 else ""
    return f"{median:.3g} {unit}{spread}"


def machine() -> dict[str, object]:
    """What the figures are true of."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - of the kernel
            named = (line.partition(":")[2] for line in lines if line.startswith("model name"))
            return next(named, "").strip() or platform.processor()
    except OSError:
        return platform.processor()


def as_json(figures: list[Figure]) -> dict[str, object]:
    """All runs, for programs."""
    return {
        "machine": machine(),
        "figures": [{**asdict(one), "verdict": one.verdict} for one in figures],
    }
