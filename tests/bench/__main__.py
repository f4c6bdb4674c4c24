"""What `vlm` costs beside what people use instead, in one run, as a table and as JSON.

python -m tests.bench [-m MODEL] [--runs 3] [--only whole,answering] [--json FILE]
                      [--gguf WEIGHTS --mmproj PROJECTOR]

MODEL is a folder; without one it is of SmolVLM-256M's shapes with random weights, and is built
first. llama-mtmd-cli takes part where it is on the PATH and is given the files of the same model.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

from tests.bench import figures, loaded, processes
from tests.bench.figures import Figure
from tests.bench.shapes import smolvlm_256m

SECTIONS = ("help", "whole", "again", "answering", "many", "equal")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-m", "--model", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--json", type=Path, help="write all runs there")
    parser.add_argument("--gguf", help="for llama-mtmd-cli")
    parser.add_argument("--mmproj", help="for llama-mtmd-cli")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"--only: no such section: {', '.join(unknown)}")
    if bool(options.gguf) != bool(options.mmproj):
        parser.error("--gguf and --mmproj go together")
    if options.gguf and not shutil.which("llama-mtmd-cli"):
        parser.error("--gguf: llama-mtmd-cli is not on the PATH")
    gguf = (options.gguf, options.mmproj) if options.gguf else None

    print(", ".join(f"{key} {value}" for key, value in figures.machine().items()))
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        model = (options.model or smolvlm_256m(Path(folder) / "smolvlm-256m-shapes")).resolve()
        print(f"model: {model.name}, {options.runs} runs in turn, medians (least to most)")
        if not gguf:
            print("llama-mtmd-cli: left out; it wants --gguf and --mmproj")
        for section in (one for one in SECTIONS if one in wanted):
            if section == "equal":
                print(loaded.equal(model), flush=True)
                continue
            found += _measured(section, model, options.runs, gguf)
    print(figures.table(found))
    if options.json:
        options.json.write_text(json.dumps(figures.as_json(found), indent=1), encoding="utf-8")


def _measured(section: str, model: Path, runs: int, gguf: tuple[str, str] | None) -> list[Figure]:
    if section == "help":
        return processes.help_text(runs)
    if section == "whole":
        return processes.whole(model, runs, gguf)
    if section == "again":
        return processes.again(model, runs)
    if section == "answering":
        return loaded.answering(model, runs)
    return [
        *loaded.many("builtin", "the built-in model", runs, tokens=32),
        *loaded.many(model, "SmolVLM-256M's shapes", 1, tokens=loaded.TOKENS),
    ]


if __name__ == "__main__":
    main()
