"""How likely a model gives an answer, read from its own next-token probabilities."""

import time
from functools import cache
from typing import Any

import torch
from transformers import GenerationConfig

from vlmcli.backends.local.cache import Memory, Start
from vlmcli.backends.local.decode import on_device
from vlmcli.backends.local.inputs import REFUSALS, Prompt
from vlmcli.backends.local.pixels import reaching
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.sampling import generation_config
from vlmcli.messages import Done, Sampling, Verdict


def affirm(model: Any, processor: Processor, prompt: Prompt, memory: Memory | None) -> Verdict:
    """How likely the answer begins with yes, and with no, in whatever case."""
    started = time.perf_counter()
    config = generation_config(model, processor, prompt, Sampling(max_tokens=1))
    with torch.inference_mode():
        logits, cached = next_token(model, prompt, config, memory)
    chances = torch.softmax(logits, dim=-1)  # (vocabulary,) float32
    seconds = time.perf_counter() - started
    words = _words(processor.tokenizer)
    return Verdict(
        yes=float(chances[words["yes"]].sum()),
        no=float(chances[words["no"]].sum()),
        done=Done("stop", prompt.prompt_tokens, prompt.image_tokens, 1, seconds, seconds, cached),
    )


def next_token(
    model: Any, prompt: Prompt, config: GenerationConfig, memory: Memory | None
) -> tuple[torch.Tensor, int]:
    """The logits of the token after the prompt, in float32, before any setting changes them, and
    how many tokens of the prompt were known."""

    def read(start: Start) -> torch.Tensor:
        with reaching(model, start.new_pictures):
            made = model.generate(
                **on_device(start.inputs, model),
                generation_config=config,
                output_logits=True,
                return_dict_in_generate=True,
            )
        logits: torch.Tensor = made.logits[0][0].float()
        return logits

    start = Start(prompt.inputs) if memory is None else memory.start(prompt.inputs)
    try:
        logits = read(start)
    except REFUSALS:
        if memory is None or not start.cached_tokens:
            raise
        memory.give_up()
        start = Start(prompt.inputs)
        logits = read(start)
    if memory is not None:
        memory.keep(start, [0])
    return logits, start.cached_tokens


@cache
def _words(tokenizer: Any) -> dict[str, list[int]]:
    """The tokens that are yes, and those that are no, but for blanks and case."""
    found: dict[str, list[int]] = {"yes": [], "no": []}
    for number, piece in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if piece is None or not any(word in piece.lower() for word in found):
            continue
        text = tokenizer.decode([number]).strip().lower()
        if text in found:
            found[text].append(number)
    return found
