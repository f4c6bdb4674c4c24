"""How likely a model gives an answer, read from its own next-token probabilities.

A model that thinks first is not let: its thoughts are closed before they begin.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from vlmcli.backends.local import branches, vocabulary
from vlmcli.backends.local.batching import Batch, Check
from vlmcli.backends.local.branches import Reading
from vlmcli.backends.local.cache import Memory, longer
from vlmcli.backends.local.decode import on_device
from vlmcli.backends.local.inputs import Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.sampling import ends_of, generation_config
from vlmcli.backends.local.spelling import Tree
from vlmcli.backends.local.thoughts import Marks, marks_of
from vlmcli.errors import InputError, ModelError
from vlmcli.messages import Chosen, Done, Sampling, Verdict


def affirm(model: Any, processor: Processor, prompt: Prompt, memory: Memory) -> Verdict:
    """How likely the answer begins with yes, and with no, in whatever case."""
    started = time.perf_counter()
    words = _words(processor.tokenizer)
    tree = None
    if not has_words(processor):
        pieces = vocabulary.pieces(processor)
        tree = Tree([_spaced(w, w.capitalize(), w.upper()) for w in words], pieces)
    with torch.inference_mode():
        reading = _read(model, processor, prompt, memory)
        read_at = time.perf_counter()
        if tree is None:
            yes, no = (float(reading.first[tokens].exp().sum()) for tokens in words.values())
        else:
            yes, no = map(math.exp, tree.walk(reading))
    return Verdict(yes, no, _done(prompt, reading, tree, started, read_at))


def has_words(processor: Processor) -> bool:
    """Whether yes and no are tokens: some tokenizers have only pieces of them."""
    return all(_words(processor.tokenizer).values())


def affirm_together(
    model: Any, processor: Processor, batch: Batch, check: Check | None
) -> list[Verdict | None]:
    """As `affirm`, of prompts that are `past_thoughts`, for a tokenizer that `has_words`.

    None for a row that would begin to think all the same. Raises DiffersError.
    """
    started = time.perf_counter()
    config = generation_config(model, processor, batch.prompts[0], Sampling(max_tokens=1))
    made = model.generate(
        **on_device(batch.inputs, model),
        generation_config=config,
        logits_processor=[] if check is None else [check],
        output_logits=True,
        return_dict_in_generate=True,
    )
    first = made.logits[0].float().log_softmax(-1)  # (rows, vocabulary)
    branches.check_finite(first)
    chances = [
        first[:, tokens].exp().sum(-1).tolist() for tokens in _words(processor.tokenizer).values()
    ]
    seconds = time.perf_counter() - started
    verdicts: list[Verdict | None] = []
    for row, prompt, yes, no in zip(first, batch.prompts, *chances, strict=True):
        if _begun(processor, prompt, row) is not None:
            verdicts.append(None)
            continue
        told = prompt.prompt_tokens, prompt.image_tokens, 1, seconds, seconds
        verdicts.append(Verdict(yes, no, Done("stop", *told, together=len(batch.prompts))))
    return verdicts


def choose(
    model: Any, processor: Processor, prompt: Prompt, choices: Sequence[str], memory: Memory
) -> Chosen:
    """How likely each of the choices is as the whole answer.

    A blank before it and a capital at its start are all the same, unless another choice differs by
    just that. The shares are off by spelling.PRECISION at most. Blanks around a choice are no part
    of it, and no two are alike. Raises ModelError if the model can say none of them, InputError if
    there is no room.
    """
    started = time.perf_counter()
    ends = ends_of(generation_config(model, processor, prompt, Sampling()))
    tree = Tree(
        [_spaced(*_forms(choice, choices)) for choice in choices],
        vocabulary.pieces(processor),
        ends,
    )
    limit = processor.context_tokens
    if limit is not None and prompt.prompt_tokens + tree.longest_spelling > limit:
        raise InputError(
            f"the prompt and a choice are longer than the {limit} tokens that"
            f" {processor.name} reads",
            hint="send fewer pictures or shorter choices, or see less of each: --detail low",
        )
    with torch.inference_mode():
        reading = _read(model, processor, prompt, memory)
        read_at = time.perf_counter()
        chances = torch.tensor(tree.walk(reading), dtype=torch.float64)
    if not chances.isfinite().any():
        raise ModelError(
            f"{processor.name} has no tokens to say any of the choices with",
            hint="take another model",
        )
    shares = tuple(chances.softmax(0).tolist())
    return Chosen(shares, _done(prompt, reading, tree, started, read_at))


def _forms(choice: str, choices: Sequence[str]) -> set[str]:
    """The choice, with and without a capital at its start."""
    first, rest = choice[0], choice[1:]
    return {choice} | ({first.upper() + rest, first.lower() + rest} - {*choices})


def _spaced(*forms: str) -> list[bytes]:
    return [f"{blank}{form}".encode() for form in forms for blank in ("", " ")]


def _done(
    prompt: Prompt, reading: Reading, tree: Tree | None, started: float, read_at: float
) -> Done:
    """`new_tokens` are those that the model has read after the prompt, to see what comes next."""
    return Done(
        reason="stop",
        prompt_tokens=prompt.prompt_tokens,
        image_tokens=prompt.image_tokens,
        new_tokens=1 if tree is None else 1 + tree.read_tokens,
        seconds_to_first_token=read_at - started,
        seconds=time.perf_counter() - started,
        cached_tokens=reading.cached_tokens,
    )


def _read(model: Any, processor: Processor, prompt: Prompt, memory: Memory) -> Reading:
    """Read the prompt up to where the answer begins."""
    config = generation_config(model, processor, prompt, Sampling(max_tokens=1))
    prompt = past_thoughts(processor, prompt)
    reading = branches.read(model, prompt, config, memory)
    if (begun := _begun(processor, prompt, reading.first)) is None:
        return reading
    prompt = _going_on(processor, prompt, f"{begun.opening}\n\n{begun.closing}\n\n")
    return branches.read(model, prompt, config, memory)


def past_thoughts(processor: Processor, prompt: Prompt) -> Prompt:
    """The prompt, and the end of the thoughts that it opens."""
    _, opened = marks_of(processor, prompt)
    return prompt if opened is None else _going_on(processor, prompt, f"\n{opened.closing}\n\n")


def _begun(processor: Processor, prompt: Prompt, first: torch.Tensor) -> Marks | None:
    """The marks of the thoughts that an answer would begin with."""
    marks, opened = marks_of(processor, prompt)
    likeliest = processor.tokenizer.decode([int(first.argmax())]).strip()
    # Not after one character: an answer may begin with a "<", too.
    if opened is not None or len(likeliest) < 2:
        return None
    return next((one for one in marks if one.opening.startswith(likeliest)), None)


def _going_on(processor: Processor, prompt: Prompt, text: str) -> Prompt:
    """The prompt with more text at its end, marks of thoughts among it."""
    tokens = processor.tokenizer(text, add_special_tokens=False).input_ids
    shape = prompt.inputs["input_ids"].shape
    rows = {
        name: longer(name, value, tokens)
        for name, value in prompt.inputs.items()
        if getattr(value, "shape", None) == shape
    }
    return replace(prompt, inputs={**prompt.inputs, **rows})


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
