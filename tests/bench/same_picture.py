"""How long a question about a picture takes to its first token, in a new process each time: the
first one, a second about the same picture, and one without the cache.

python tests/bench/same_picture.py [-m MODEL] [--size WIDTHxHEIGHT] [--dtype DTYPE] [ROUNDS]

MODEL is a folder or a name as for `vlm ask`; without one it is the model that ships inside. The
time is what a user waits once the model is loaded: preparing the picture is part of it, and the
writing of the features is, as far as it holds up the end of the answer. The three kinds take turns,
so that the ratios hold on a machine that does other work as well; a question of the same kind
warms the disk before the first round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PROGRAM = """
import json, sys, time
from pathlib import Path
from PIL import Image
from vlmcli import config, messages
from vlmcli.backends.local import engine
from vlmcli.messages import Sampling

file, question, model, dtype, cache = sys.argv[1:]
flags = {"model": model, "dtype": dtype, "cache": cache == "cache", "verbose": True}
loaded = engine.load(config.load(flags))
pixels = Image.open(file).convert("RGB")
start_s = time.perf_counter()
asked = [messages.user(question, [messages.Image(file, pixels, "")])]
*_, done = loaded.generate(asked, Sampling(max_tokens=8))
whole_s = time.perf_counter() - start_s
print(json.dumps({
    "label": loaded.label,
    "first_s": whole_s - done.seconds + done.seconds_to_first_token,
    "whole_s": whole_s,
    "model_s": done.seconds_to_first_token,
    "cached": done.cached_features,
}))
"""
KINDS = ("first", "second", "no cache")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", default="builtin")
    parser.add_argument("--size", default="300x500")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("rounds", nargs="?", type=int, default=5)
    arguments = parser.parse_args()
    size = tuple(int(side) for side in arguments.size.split("x"))
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as root:
        picture = Path(root) / "noise.png"
        Image.effect_noise((size[0], size[1]), 60).convert("RGB").save(picture)
        ask(picture, "Warm up.", arguments, Path(root) / "warm", cache=False)
        for n in range(arguments.rounds):
            for kind in KINDS:
                cache = Path(root) / f"cache {n}"
                question = f"What is in the {kind} picture?"
                one = ask(picture, question, arguments, cache, cache=kind != "no cache")
                assert bool(one["cached"]) == (kind == "second"), one
                found[kind].append(one)
        kept = [file.stat().st_size for file in cache.rglob("*") if file.is_file()]
    print(f"{found['first'][0]['label']}, a picture of {arguments.size}, kept in {sum(kept)} bytes")
    usual = statistics.median(one["first_s"] for one in found["no cache"])
    for kind, ones in found.items():
        first, model, whole = (
            sorted(one[name] for one in ones) for name in ("first_s", "model_s", "whole_s")
        )
        middle = statistics.median(first)
        print(
            f"{kind:9} first token {middle:.3f} s ({first[0]:.3f} to {first[-1]:.3f}), the model's"
            f" part {statistics.median(model):.3f}, whole {statistics.median(whole):.3f};"
            f" {middle / usual:.2f} of no cache"
        )


def ask(
    picture: Path, question: str, arguments: argparse.Namespace, folder: Path, *, cache: bool
) -> dict[str, float]:
    command = [sys.executable, "-c", PROGRAM, str(picture), question, arguments.model]
    command += [arguments.dtype, "cache" if cache else "no cache"]
    environment = os.environ | {"VLM_CACHE_DIR": str(folder)}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


if __name__ == "__main__":
    main()
