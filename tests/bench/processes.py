"""Whole processes: as a user waits for them, from the command to its end."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import plain_script
from tests.bench.figures import Figure, in_turn, seconds
from tests.bench.pictures import photo

TOKENS = 64
_PROMPT = "Describe this image in one short sentence."


def whole(model: Path, runs: int, gguf: tuple[str, str] | None) -> list[Figure]:
    """One caption of a photo of 300x500, from the command to the end of the process."""
    with tempfile.TemporaryDirectory() as folder:
        picture = photo(Path(folder) / "photo.jpg", seed=1)
        script = [sys.executable, plain_script.__file__, str(model), picture, str(TOKENS)]
        ways = {
            "vlm": _vlm("caption", picture, "-m", model, "-n", TOKENS, "--no-cache"),
            "script": script,
            "int8": _vlm(
                "caption", picture, "-m", model, "-n", TOKENS, "--no-cache", "--quantize", "int8"
            ),
        }
        if gguf is not None:
            weights, projector = gguf
            ways["llama"] = [
                *("llama-mtmd-cli", "-m", weights, "--mmproj", projector, "--image", picture),
                *("-p", _PROMPT, "-n", str(TOKENS), "--temp", "0"),
            ]
        times = dict(
            zip(ways, in_turn(runs, *(lambda c=c: _timed(c) for c in ways.values())), strict=True)
        )
    against = "a plain transformers script"
    figures = [
        Figure("whole process", against, "s", times["vlm"], times["script"], aim=3),
        Figure("whole process, int8", against, "s", times["int8"], times["script"], aim=3),
    ]
    if gguf is not None:
        llama = "llama-mtmd-cli"
        figures.append(Figure("whole process", llama, "s", times["vlm"], times["llama"], aim=3))
    return figures


def again(model: Path, runs: int) -> list[Figure]:
    """The first token of a second question about a picture, in a process of its own."""
    first, second = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            for seed in range(runs):
                picture = photo(Path(folder) / f"photo{seed}.jpg", seed)
                for times, question in ((first, "What is it?"), (second, "Which colours?")):
                    asked = _vlm("ask", picture, question, "-m", model, "-n", 2, "--json")
                    done = subprocess.run(asked, capture_output=True, check=True)
                    times.append(json.loads(done.stdout)["seconds_to_first_token"])
        finally:
            del os.environ["XDG_CACHE_HOME"]
    what, against = "first token, same picture in a new process", "the first question"
    return [Figure(what, against, "s", tuple(second), tuple(first), aim=4)]


def help_text(runs: int) -> list[Figure]:
    """`vlm --help`, beside a Python that does nothing."""
    nothing = [sys.executable, "-c", "pass"]
    vlm = [shutil.which("vlm") or "vlm", "--help"]
    for command in (vlm, nothing):
        _timed(command)  # the first run reads the disk
    ours, theirs = in_turn(max(5, runs), lambda: 1000 * _timed(vlm), lambda: 1000 * _timed(nothing))
    return [
        Figure("vlm --help", "", "ms", ours, most=150),
        Figure("vlm --help", "python -c pass", "ms", ours, theirs),
    ]


def _vlm(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "vlmcli", *map(str, arguments)]


def _timed(command: list[str]) -> float:
    return seconds(lambda: subprocess.run(command, capture_output=True, check=True))
