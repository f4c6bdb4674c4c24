"""What one `vlm caption` in a process of its own costs, phase by phase, beside another checkout.

python tests/bench/one_shot.py PICTURE [MODEL [RUNS [OTHER_CHECKOUT]]]

The two take turns, so that what else the machine does meets both. The seconds of the processor say
more than those of the clock where it does much else. A checkout from before there were phases has
none in its column.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True)
class Run:
    """One process: seconds by the clock and of the processor, its peak of memory, its phases."""

    seconds: float
    cpu_s: float
    peak_mb: float
    phases: dict[str, float]


def caption(checkout: Path, picture: Path, model: str) -> Run:
    command = [
        sys.executable,
        "-P",
        "-c",
        "from vlmcli.app import run; run()",
        "caption",
        str(picture),
    ]
    command += ["-m", model, "-n", "1", "--json", "--stats"]
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    record = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    seconds = time.perf_counter() - start
    cpu_s = used.ru_utime + used.ru_stime
    return Run(seconds, cpu_s, used.ru_maxrss / 1024, record.get("phases", {}))


def told(runs: list[Run]) -> dict[str, float]:
    """The medians of some runs, by name."""
    names = {name: None for run in runs for name in run.phases}
    phases = {name: statistics.median(run.phases.get(name, 0.0) for run in runs) for name in names}
    return {
        "whole process, s": statistics.median(run.seconds for run in runs),
        "of the processor, s": statistics.median(run.cpu_s for run in runs),
        "peak memory, MB": statistics.median(run.peak_mb for run in runs),
        **{f"  {name}, s": seconds for name, seconds in phases.items()},
    }


def main() -> None:
    picture, model = Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "builtin"
    runs = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    checkouts = [HERE, *(Path(other) for other in sys.argv[4:5])]
    for checkout in checkouts:
        caption(checkout, picture, model)  # the first run reads the disk
    turns = [[caption(one, picture, model) for one in checkouts] for _ in range(runs)]
    columns = [told(list(column)) for column in zip(*turns, strict=True)]
    print(f"{model}, {picture.name}, medians of {runs}; {', '.join(map(str, checkouts))}")
    for name, value in columns[0].items():
        others = "".join(f"{column.get(name, float('nan')):10.3f}" for column in columns[1:])
        print(f"{name:24}{value:10.3f}{others}")
    for name in ("seconds", "cpu_s") if len(checkouts) > 1 else ():
        ratio = statistics.median(getattr(a, name) / getattr(b, name) for a, b in turns)
        print(f"ratio of {name}: {ratio:.3f}")


if __name__ == "__main__":
    main()
