"""Memory while a folder of small pictures is captioned: it should not grow with the pictures.

python tests/bench/folder_memory.py [PICTURES]

Uses a tiny random model: what is measured is everything around a model, not a model.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))
import tiny_models


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as root:
        model = tiny_models.build("smolvlm", Path(root) / "model")
        folder = Path(root) / "pictures"
        folder.mkdir()
        for n in range(count):
            Image.effect_noise((320, 240), 40 + n % 60).convert("RGB").save(folder / f"{n:05}.jpg")
        caption(folder, model, count)


def caption(folder: Path, model: Path, count: int) -> None:
    """Caption the folder and print the memory of the process at every tenth of it."""
    command = ["vlm", "caption", str(folder), "-m", str(model), "-n", "4"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        watched = psutil.Process(process.pid)
        for n, _ in enumerate(process.stdout, 1):
            if n % max(count // 10, 1) == 0:
                print(f"{n:6} pictures: {watched.memory_info().rss / 1e6:6.0f} MB", flush=True)
    seconds = time.perf_counter() - start
    print(f"exit {process.returncode}, {count / seconds:.1f} pictures a second")


if __name__ == "__main__":
    main()
