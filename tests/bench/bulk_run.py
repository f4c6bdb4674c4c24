"""A bulk run over a small and a large folder: how long the first record takes, memory, and fsync.

python tests/bench/bulk_run.py [PICTURES] [FOLDER]

A stand-in answers at once: what is measured is everything around a model, not a model. The pictures
are tiny and no two alike; they and the output lie in FOLDER, a temporary one if none is named.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

PROGRAM = """
import os, sys, time
from vlmcli import backends
from vlmcli.app import run
from vlmcli.backends import Engine
from vlmcli.messages import Delta, Done

spent, real = [0.0], os.fsync

def fsync(file):
    start = time.perf_counter()
    real(file)
    spent[0] += time.perf_counter() - start

def generate(conversation, sampling):
    yield Delta("A dot.")
    yield Done("stop", 1, 1, 1, 0.0, 0.0)

os.fsync = fsync
backends.load = lambda settings: Engine("stand-in", "cpu", "float32", generate)
backends.identify = lambda settings: ("stand-in", None)
try:
    run()
finally:
    print(spent[0])
"""


def main() -> None:
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as root:
        first_s = {}
        for count in (most // 20, most):
            folder = Path(root) / f"{count}"
            folder.mkdir()
            for n in range(count):
                Image.new("RGB", (8, 8), (n % 256, n // 256 % 256, n // 65536)).save(
                    folder / f"{n:07}.png", compress_level=1
                )
            first_s[count] = measure(folder, count, "asked")
            measure(folder, count, "skipped")
        small, large = first_s.values()
        print(f"first record of {most} and of {most // 20}: {large / small:.2f} times as long")


def measure(folder: Path, count: int, what: str) -> float:
    """Run over the folder; when the first record came, in seconds after the start."""
    out = folder.with_suffix(".jsonl")
    command = [sys.executable, "-c", PROGRAM, "caption", str(folder), "-o", str(out)]
    start = time.perf_counter()
    first_s = early_mb = peak_mb = 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            written = out.stat().st_size if out.exists() else 0
            if written and not first_s:
                first_s = time.perf_counter() - start
            try:
                memory_mb = watched.memory_info().rss / 1e6
            except psutil.Error:
                break
            if written and not early_mb and time.perf_counter() - start > first_s + 0.2:
                early_mb = memory_mb
            peak_mb = max(peak_mb, memory_mb)
            time.sleep(0.01)
        assert process.stdout is not None
        fsync_s = float(process.stdout.read())
    took_s = time.perf_counter() - start
    print(
        f"{count:8} {what:8}: {count / took_s:6.0f}/s, first record after {first_s:.2f} s,"
        f" memory {early_mb:.0f} MB early, {peak_mb:.0f} MB at most, fsync {fsync_s / took_s:.0%}",
        flush=True,
    )
    return first_s


if __name__ == "__main__":
    main()
