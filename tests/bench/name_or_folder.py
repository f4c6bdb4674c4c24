"""What it costs to name a cached model in place of its folder: `vlm ask`, one after the other.

python tests/bench/name_or_folder.py [RUNS]
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import tiny_models
from hub_server import Hub
from PIL import Image

NAME = "acme/tiny-vlm"


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with tempfile.TemporaryDirectory() as scratch, Hub() as hub:
        home, picture = Path(scratch), Path(scratch) / "red.png"
        Image.new("RGB", (64, 48), "red").save(picture)
        folder = tiny_models.build("smolvlm", home / "model")
        hub.add(NAME, folder)
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home)}

        def seconds(model: object) -> float:
            start = time.perf_counter()
            ask = ["vlm", "ask", str(picture), "what?", "-n", "1", "-m", str(model)]
            subprocess.run(ask, env=environment, check=True, capture_output=True)
            return time.perf_counter() - start

        seconds(NAME)  # downloads
        hub.requests.clear()
        pairs = [(seconds(NAME), seconds(folder)) for _ in range(runs)]
        named, foldered = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"name {named:.2f} s, folder {foldered:.2f} s, ratio {named / foldered:.3f},", end="")
        print(f" medians of {runs}; {len(hub.requests)} requests")


if __name__ == "__main__":
    main()
