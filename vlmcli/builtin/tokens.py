"""The tokenizer: bytes for everything that is read, whole words for what the answers are made of.

A question is cut into bytes, so that any script can be asked in. The words below never come out of
encoding a text, only out of the model: what it copies from a picture it spells, what it says of its
own it says in words, and so an answer takes few steps.
"""

import re
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CANNOT_TELL = (
    "This small built-in model cannot tell; a larger one can: run the same command with -m smolvlm."
)
"""The one answer about everything that the model was not made for; one token, said whole."""

START, IMAGE, END, PAD = "<|im_start|>", "<image>", "<end_of_utterance>", "<pad>"
READ = "\x01"
"""Stands in an answer before and after what is read from the picture, letter by letter."""

_PHRASES = """
A bar chart with|; the highest is| with| bars|A bar chart titled|two|three|four|five|six|bar chart
yes|no|left|right|up|down|above|below|larger|smaller|A sign that says|sign|text|words|printed
a|an|A|An|and| and|,|.|; |: | to the left of| to the right of| in order|The| the|the
red|orange|yellow|green|blue|purple|pink|brown|black|white|gray
circle|square|triangle|rectangle|star|diamond|circles|squares|triangles|rectangles|stars|diamonds
moves|moved| to the|changed from| to| changed from|appeared|disappeared|grew larger|became smaller
Nothing changed.|Nothing moves.|one|shapes|shape|bars|values|number|the same|changed| is| of|0
neither
"""


def _phrases() -> list[str]:
    plain = [part for line in _PHRASES.strip().splitlines() for part in line.split("|")]
    spaced = [f" {part}" for part in plain if part[0].isalpha()]
    return [CANNOT_TELL, *dict.fromkeys([*plain, *spaced])]


def _as_bytes(text: str) -> str:
    """The spelling of a text in the alphabet of byte-level tokenizers, one character a byte."""
    (piece,) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(
        text
    )
    return str(piece[0])


def build() -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [PAD, START, IMAGE, END, *alphabet]
    names += [spelt for phrase in _phrases() if len(spelt := _as_bytes(phrase)) > 1]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(name, special=True, normalized=False) for name in (PAD, START, IMAGE, END)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
        padding_side="left",
    )


class Speller:
    """Texts -> token ids as the training wants them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab()
        phrases = sorted(_phrases(), key=len, reverse=True)
        self._phrases = {phrase: ids[_as_bytes(phrase)] for phrase in phrases}
        self._cut = re.compile("|".join(map(re.escape, phrases)))

    def question(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def answer(self, text: str) -> list[int]:
        """Words where the model speaks, bytes where it reads (between two READ)."""
        ids: list[int] = []
        for i, part in enumerate(text.split(READ)):
            if i % 2:
                ids += self.question(part)
                continue
            at = 0
            for found in self._cut.finditer(part):
                ids += self.question(part[at : found.start()])
                ids.append(self._phrases[found.group()])
                at = found.end()
            ids += self.question(part[at:])
        return ids


def save(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = build()
    tokenizer.save_pretrained(folder)
    return tokenizer
