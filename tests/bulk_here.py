"""What the tests of bulk runs share: a program that answers by the picture, and can be killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# Everything is imported once; each command line is then run in a fork, which begins at once.
_PROGRAM = """
import json, os, sys, time
from vlmcli import backends
from vlmcli.app import main
from vlmcli.backends import Engine
from vlmcli.commands import caption, keeping
from vlmcli.messages import Delta, Done

def generate(conversation, sampling):
    red, green, blue = conversation[-1].images[0].pixels.getpixel((0, 0))
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(f"{red} {green} {blue}\\n")
    time.sleep(float(os.environ["PAUSE"]))
    yield Delta(f'red {red},\\nsaid "green" {green}')
    yield Done("stop", 1, 1, 1, 0.1, 0.1)

backends.load = lambda settings: Engine("fake", "cpu", "float32", generate)
backends.identify = lambda settings: ("fake", None)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os._exit(main(json.loads(line)))
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@dataclass(slots=True)
class Program:
    """`vlm` as a process of its own, again and again."""

    process: "subprocess.Popen[str]"
    calls: Path
    running: int = 0

    def start(self, *arguments: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self.process.stdin.flush()
        self.running = int(self._line())

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.running, number)

    def wait(self) -> int:
        """The exit code; minus the signal, if one ended it."""
        return int(self._line())

    def run(self, *arguments: object) -> int:
        self.start(*arguments)
        return self.wait()

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@contextmanager
def program(folder: Path, pause_s: float = 0.0) -> Iterator[Program]:
    """What it says goes to `folder`/stderr, and what its model is asked to `folder`/calls."""
    calls = folder / "calls"
    calls.touch()
    environment = {**os.environ, "CALLS": str(calls), "PAUSE": str(pause_s)}
    with (
        (folder / "stderr").open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
    ):
        yield Program(process, calls)


def dots(folder: Path, count: int, damaged: Sequence[int] = ()) -> list[Path]:
    """So many tiny pictures, no two alike; of the damaged ones nothing can be decoded."""
    folder.mkdir()
    files = [folder / f"{number:04}.png" for number in range(count)]
    for number, file in enumerate(files):
        Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(file)
        if number in damaged:
            file.write_bytes(file.read_bytes()[:40])
    return files


def said_of(number: int) -> str:
    """What the program answers about a picture of `dots`."""
    return f'red {number % 256},\nsaid "green" {number // 256}'


def records(file: Path) -> list[dict[str, object]]:
    """Those of a file of JSON lines that are complete."""
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines]
