"""The tokens of a model as bytes: what an answer is spelt with, whatever the tokenizer would do."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import llguidance.hf

from vlmcli.backends.local.processors import Processor
from vlmcli.errors import ModelError


def reader(processor: Processor) -> llguidance.LLTokenizer:
    """The tokenizer as llguidance reads it. Raises ModelError for a kind that it does not know."""
    try:
        return _reader(processor.tokenizer)
    except ValueError as error:
        raise ModelError(
            f"the tokenizer of {processor.name} cannot be held to a form: {error}"[:300],
            hint="take another model",
        ) from error


@cache
def _reader(tokenizer: Any) -> llguidance.LLTokenizer:
    return llguidance.hf.from_tokenizer(tokenizer)


def pieces(processor: Processor) -> Mapping[bytes, Sequence[int]]:
    """The tokens by what they add to a text; those that mark structure add nothing."""
    return _pieces(reader(processor))


@cache
def _pieces(tokens: llguidance.LLTokenizer) -> Mapping[bytes, Sequence[int]]:
    found: dict[bytes, list[int]] = {}
    for number in range(tokens.vocab_size):
        if not tokens.is_special_token(number) and (text := tokens.decode_bytes([number])):
            found.setdefault(text, []).append(number)
    return found
