"""How long `vlm --help` and a usage error take, beside `python -c pass`.

python tests/bench/startup.py [RUNS]
"""

import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "vlm --version": ["vlm", "--version"],
    "vlm --help": ["vlm", "--help"],
    "vlm caption --help": ["vlm", "caption", "--help"],
    "vlm caption nowhere.jpg": ["vlm", "caption", "nowhere.jpg"],
}


def milliseconds(command: list[str]) -> float:
    """Wall time of one run."""
    start = time.perf_counter()
    subprocess.run(command, capture_output=True, check=False)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for name, command in COMMANDS.items():
        milliseconds(command)  # the first run reads the disk
        times = sorted(milliseconds(command) for _ in range(runs))
        print(f"{name:24} median {statistics.median(times):6.0f} ms, {runs} runs,", end="")
        print(f" {times[0]:.0f} to {times[-1]:.0f}")


if __name__ == "__main__":
    main()
