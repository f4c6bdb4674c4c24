"""How the next token is chosen, and when it is enough: Sampling -> transformers' own settings."""

from typing import Any

from transformers import GenerationConfig

from vlmcli.backends.local.inputs import Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.messages import Sampling

# Below it, logits divided by the temperature overflow; the likeliest token is certain long before.
LEAST_TEMPERATURE = 0.001


def generation_config(
    model: Any, processor: Processor, prompt: Prompt, sampling: Sampling
) -> GenerationConfig:
    """The model's own generation settings with the user's on top; one beam, so that it streams."""
    own = model.generation_config
    ends = _union(own.eos_token_id, processor.tokenizer.eos_token_id)
    room = sampling.max_tokens
    if processor.context_tokens is not None:
        room = max(1, min(room, processor.context_tokens - prompt.prompt_tokens))
    changed = {
        **own.to_diff_dict(),
        "eos_token_id": ends or None,
        "pad_token_id": own.pad_token_id if own.pad_token_id is not None else min(ends, default=0),
        "max_new_tokens": room,
        "max_length": None,
        "num_beams": 1,
        "num_return_sequences": 1,
        "early_stopping": False,
        "length_penalty": 1.0,
        "do_sample": sampling.temperature >= LEAST_TEMPERATURE,
        "temperature": sampling.temperature or None,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
    }
    if not changed["do_sample"]:
        changed |= {"temperature": None, "top_p": None, "top_k": None, "min_p": None}
    if sampling.repetition_penalty is not None:
        changed["repetition_penalty"] = sampling.repetition_penalty
    return GenerationConfig(**changed)


def _union(*ends: int | list[int] | None) -> list[int]:
    """The end tokens of both: a model's settings and its tokenizer do not always agree."""
    found = {n for end in ends for n in ([end] if isinstance(end, int) else end or [])}
    return sorted(found)


def ends_of(config: GenerationConfig) -> list[int]:
    """The tokens that end an answer."""
    return _union(config.eos_token_id)


def has_ended(ids: list[int], config: GenerationConfig) -> bool:
    return bool(ids) and ids[-1] in ends_of(config)
