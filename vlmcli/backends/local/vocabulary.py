"""The tokens of a model as bytes: what an answer is spelt with, whatever the tokenizer would do."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import llguidance.hf

from vlmcli.backends.local.processors import Processor
from vlmcli.errors import ModelError

Texts = Mapping[bytes, Sequence[int]]


def reader(processor: Processor, ends: Sequence[int] = ()) -> llguidance.LLTokenizer:
    """The tokenizer as llguidance reads it; at one of `ends` a text is over.

    Raises ModelError for a kind that it does not know.
    """
    try:
        return _reader(processor.tokenizer, tuple(ends))
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"the tokenizer of {processor.name} cannot be read as bytes: {reason}",
            hint="take another model for --choices and --schema",
        ) from error


@cache
def _reader(tokenizer: Any, ends: tuple[int, ...]) -> llguidance.LLTokenizer:
    return llguidance.hf.from_tokenizer(tokenizer, eos_token=[*ends] or None)


def pieces(processor: Processor) -> Texts:
    """The tokens by what they add to a text; those that mark structure add nothing."""
    return _pieces(reader(processor))


def texts(processor: Processor) -> Texts:
    """As `pieces`, with those that mark structure, by their names."""
    added = processor.tokenizer.added_tokens_decoder
    return {**pieces(processor), **{t.content.encode(): [n] for n, t in added.items()}}


@cache
def _pieces(tokens: llguidance.LLTokenizer) -> Texts:
    found: dict[bytes, list[int]] = {}
    for number in range(tokens.vocab_size):
        if not tokens.is_special_token(number) and (text := tokens.decode_bytes([number])):
            found.setdefault(text, []).append(number)
    return found
