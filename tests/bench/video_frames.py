"""Sixteen frames of a ten-minute clip: ours, all of it decoded, and OpenCV as notebooks use it.

    python tests/bench/video_frames.py [CLIP]

Without CLIP it makes one (720p, 25 frames a second, H.264, a key frame every 10 s), which takes
some minutes. OpenCV is measured where it is installed: pip install opencv-python-headless. Each way
runs in a process of its own; the memory is its peak above a Python that has imported as much.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

COUNT = 16
REPEATS = 3
SECONDS, RATE, SIZE = 600, 25, (1280, 720)

_MEASURED = """
import resource, sys, time
path, count = sys.argv[1], int(sys.argv[2])
{imports}
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, started = peak(), time.perf_counter()
{work}
print(len(found), time.perf_counter() - started, peak() - before)
"""
_WAYS = {
    "vlm": (
        "from pathlib import Path; from vlmcli import video; from vlmcli.video import Choice",
        """
with video.opened(path, Path(path), animated=False, max_pixels=10**9) as clip:
    found = video.take(clip, video.stretch(clip, None, None), Choice(count)).video.frames
""",
    ),
    "PyAV, everything": (
        "import av",
        """
with av.open(path) as file:
    file.streams.video[0].thread_type = "AUTO"
    total = file.streams.video[0].frames
    wanted = {int((i + 0.5) * total / count) for i in range(count)}
    frames = enumerate(file.decode(video=0))
    found = [frame.to_image() for number, frame in frames if number in wanted]
""",
    ),
    "OpenCV, cap.set": (
        "import cv2",
        """
capture, found = cv2.VideoCapture(path), []
total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
for i in range(count):
    capture.set(cv2.CAP_PROP_POS_FRAMES, int((i + 0.5) * total / count))
    found.append(cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2RGB))
""",
    ),
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(sys.argv[1]) if len(sys.argv) > 1 else made(Path(folder) / "clip.mp4")
        runs = {way: [measured(way, clip) for _ in range(REPEATS)] for way in _WAYS}
    ours_s = sorted(seconds for seconds, _ in runs["vlm"])[REPEATS // 2]
    for way, results in runs.items():
        if not any(results):
            print(f"{way:18} not installed")
            continue
        seconds = sorted(seconds for seconds, _ in results)[REPEATS // 2]
        memory = max(mib for _, mib in results)
        print(f"{way:18} {seconds:6.2f} s  {seconds / ours_s:5.1f} x ours  {memory:5.0f} MiB more")


def measured(way: str, clip: Path) -> tuple[float, float] | tuple[()]:
    """Seconds, and MiB at the peak; () if a library is missing."""
    imports, work = _WAYS[way]
    code = _MEASURED.format(imports=imports, work=work)
    done = subprocess.run(
        [sys.executable, "-c", code, str(clip), str(COUNT)], capture_output=True, text=True
    )
    if "ModuleNotFoundError" in done.stderr:
        return ()
    done.check_returncode()
    count, seconds, mib = done.stdout.split()
    assert int(count) == COUNT, f"{way} found {count} frames"
    return float(seconds), float(mib)


def made(path: Path) -> Path:
    """A clip with something in it that moves, and a new scene every 50 s."""
    import av
    import numpy as np

    print("making a clip …", file=sys.stderr)
    rng = np.random.default_rng(0)
    width, height = SIZE
    block = np.ones((16, 16, 1))
    scenes = [
        np.kron(rng.integers(40, 220, (height // 16, width // 16, 3)), block).astype(np.uint8)
        for _ in range(SECONDS // 50)
    ]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(SECONDS * RATE):
            picture = np.roll(scenes[i // (RATE * 50)], i * 2 % width, axis=1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


if __name__ == "__main__":
    main()
