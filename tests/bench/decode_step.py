"""Tokens a second between the first token and the last: transformers' `generate` beside our loop.

python -m tests.bench.decode_step [-m FOLDER] [--dtypes bfloat16,float32] [--rows 1,4,16]

Without FOLDER it is the model that ships inside. Each case is run by both in turn, RUNS times, so
that the ratio holds on a machine that does other work as well; the figures are medians, counted for
all rows together. Answers go on to their full length, whatever their tokens mean.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, GenerationConfig

from tests.bench.loaded import Clock
from vlmcli.backends.local import lean, loop, processors
from vlmcli.models.cached import BUILTIN_FOLDER

RUNS = 5


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", "--model", type=Path, default=BUILTIN_FOLDER)
    parser.add_argument("-n", "--tokens", type=int, default=48)
    parser.add_argument("--prompt", type=int, default=80)
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--rows", default="1,4,16")
    arguments = parser.parse_args()
    processor = processors.load(arguments.model, arguments.model.name)
    ids = processor.tokenizer(" the picture shows a red box" * arguments.prompt).input_ids
    prompt = torch.tensor([ids[: arguments.prompt]])
    name = arguments.model.name
    print(f"{name}: {arguments.prompt} tokens of prompt, {arguments.tokens} of answer")
    print(f"{torch.get_num_threads()} threads, medians of {RUNS} runs\n")
    print(f"{'dtype':>9} {'rows':>5} {'generate':>9} {'our loop':>9} {'ratio':>6}  same tokens")
    for dtype in arguments.dtypes.split(","):
        model: Any = AutoModelForImageTextToText.from_pretrained(
            arguments.model, dtype=getattr(torch, dtype)
        ).eval()
        for count in map(int, arguments.rows.split(",")):
            inputs = {
                "input_ids": prompt.repeat(count, 1),
                "attention_mask": torch.ones(count, arguments.prompt, dtype=torch.long),
            }
            compare(model, inputs, arguments.tokens, dtype)


def compare(model: Any, inputs: dict[str, Any], tokens: int, dtype: str) -> None:
    """Print a line of the table."""
    config = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, num_beams=1, pad_token_id=0, eos_token_id=None
    )
    model.generation_config.eos_token_id = None
    rows = len(inputs["input_ids"])
    speeds: dict[str, list[float]] = {"theirs": [], "ours": []}
    same = True
    for run in range(RUNS + 1):
        with torch.inference_mode():
            their_rate, theirs = by_generate(model, inputs, config)
            our_rate, ours = by_loop(model, inputs, config)
        same = same and theirs == ours
        if run:  # the first one warms up
            speeds["theirs"].append(rows * their_rate)
            speeds["ours"].append(rows * our_rate)
    theirs_median, ours_median = median(speeds["theirs"]), median(speeds["ours"])
    ratio = median(a / b for a, b in zip(speeds["ours"], speeds["theirs"], strict=True))
    how = "" if lean.of(model) else "  (by the model's own forward)"
    figures = f"{dtype:>9} {rows:>5} {theirs_median:>9.1f} {ours_median:>9.1f} {ratio:>6.2f}"
    print(f"{figures}  {same}{how}", flush=True)


def by_generate(
    model: Any, inputs: dict[str, Any], config: GenerationConfig
) -> tuple[float, list[list[int]]]:
    """Steps a second, and the tokens of each row."""
    clock = Clock()
    ids = model.generate(**inputs, generation_config=config, streamer=clock)
    first, last = clock.times_s[1], clock.times_s[-1]
    count = inputs["input_ids"].shape[1]
    return (len(clock.times_s) - 2) / (last - first), ids[:, count:].tolist()


def by_loop(
    model: Any, inputs: dict[str, Any], config: GenerationConfig
) -> tuple[float, list[list[int]]]:
    """As `by_generate`."""
    times: list[float] = []
    said: list[list[int]] = [[] for _ in inputs["input_ids"]]

    def taker(row: int) -> Any:
        def take(token: int) -> bool:
            said[row].append(token)
            if row == 0:
                times.append(time.perf_counter())
            return False

        return take

    takers = [loop.Row(taker(row), config.max_new_tokens) for row in range(len(said))]
    loop.answer(model, inputs, config, takers)
    return (len(times) - 1) / (times[-1] - times[0]), said


if __name__ == "__main__":
    main()
