"""The tokenizer: bytes for everything that is read, whole words for what is asked and answered.

A question is cut into the words that questions are made of, and into bytes where it holds anything
else, so that any script can be asked in. The phrases of the answers, but for those that are such
words, never come out of encoding a text, only out of the model: what it copies from a picture it
spells, what it says of its own it says in phrases. So a question and an answer take few steps.
"""

import re
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CANNOT_TELL = (
    "This small built-in model cannot tell; a larger one can: run the same command with -m smolvlm."
)
"""The one answer about everything that the model was not made for; one token, said whole."""

START, IMAGE, END, PAD = "<|im_start|>", "<image>", "<end_of_utterance>", "<pad>"
_MISSPELT = 0.1
"""Of the questions of the training, those with a word in bytes."""
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
# Each as it stands, with a capital, and in capitals. A model is trained with the numbers that they
# have here, and those of a capital come after all without: one more word is another model.
_WORDS = """
a above across all alone alt an and animal apart are art artist as ask at average bar bars be
bearing behind below beside between bicycle big bigger biggest book bottom box brand breed brief but
by called can cannot caption car cars cat categories category cats change changed chart charts
circle circles city clip clothes color colors colour colours column columns commas compare cost
could count country data day deep describe description detail detailed details diamond diamonds
difference different differ direction do does dog doing else explain extract first food for frame
frames from give go goes going greatest happen happening happens happy has have hello here hey hi
high higher highest how illustrate image images in is it its joke kind label labels language
large larger largest last least left letter letters like list look looks low lower lowest made man
many matters max maximum me mean mood more most move moved moves moving much name near next night no
not nothing number numbers object objects of off old on one ones or order other out over painted
part people person photo picture pictures plain please poem position print printed question read
real recipe rectangle rectangles right safe same say says season second see seen sentence sentences
separated shape shapes short shortest show shown shows side sign signs size small smaller
smallest solve something sport spot square squares star stars starting story sum summarize tag tags
taken tall taller tallest tell text than that the their them then there these thing things this time
title to together top total translate transcribe tree trend triangle triangles two up value values
video visible was way we weather wearing what when where which who whole why will winner with word
words write written year yes you your red orange yellow green blue purple pink brown black white
gray grey keywords
"""
_ROLES = ("System:", "User:", "Assistant:")
_JAPANESE = """
棒グラフ グラフ 最高値 最大値 最低値 最小値 一番 最も 最大 最小 高い 低い 値 棒 の は が 何ですか
いくつですか どれですか いくつ 何本 どの ありますか 数 教えてください
を これ 誰 天気 平均 どう 何 見えますか この 人 ですか
"""


def _phrases() -> list[str]:
    plain = [part for line in _PHRASES.strip().splitlines() for part in line.split("|")]
    spaced = [f" {part}" for part in plain if part[0].isalpha()]
    return [CANNOT_TELL, *dict.fromkeys([*plain, *spaced])]


def _words() -> list[str]:
    plain = _WORDS.split()
    forms = [*plain, *(word.capitalize() for word in plain), *(word.upper() for word in plain)]
    return list(dict.fromkeys(forms))


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
    # A word takes the blanks before it along (decoding a question does not bring them back); within
    # another word it is none.
    words = [AddedToken(word, single_word=True, lstrip=True) for word in _words()]
    pieces = [AddedToken(piece, normalized=False) for piece in (*_ROLES, *_JAPANESE.split())]
    tokenizer.add_tokens([*words, *pieces])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
        padding_side="left",
    )


class Speller:
    """Texts -> token ids as the training wants them."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        ids = self._ids = tokenizer.get_vocab()
        phrases = sorted(_phrases(), key=len, reverse=True)
        self._phrases = {phrase: ids[_as_bytes(phrase)] for phrase in phrases}
        self._cut = re.compile("|".join(map(re.escape, phrases)))

    def question(self, text: str, misspelt: Random | None = None) -> list[int]:
        """As the tokenizer cuts it; with `misspelt`, a few words in bytes, as rare ones are."""
        if misspelt is None or misspelt.random() > _MISSPELT:
            return list(self._tokenizer.encode(text, add_special_tokens=False))
        words = text.split(" ")
        at = misspelt.randrange(len(words))
        before, after = " ".join(words[:at]), " ".join(words[at + 1 :])
        spelt = f" {words[at]}" if before else words[at]
        rest = self.question(f" {after}") if after else []
        return (self.question(before) if before else []) + self.spelt(spelt) + rest

    def names(self, word: str) -> list[int]:
        """The tokens of a noun in a question: one or several, in small letters or in capitals."""
        forms = [
            form for one in (word, f"{word}s") for form in (one, one.capitalize(), one.upper())
        ]
        return [self._ids[form] for form in forms]

    def spelt(self, text: str) -> list[int]:
        """Byte by byte."""
        return [self._ids[char] for char in _as_bytes(text)] if text else []

    def answer(self, text: str) -> list[int]:
        """Words where the model speaks, bytes where it reads (between two READ)."""
        ids: list[int] = []
        for i, part in enumerate(text.split(READ)):
            if i % 2:
                ids += self.spelt(part)
                continue
            at = 0
            for found in self._cut.finditer(part):
                ids += self.spelt(part[at : found.start()])
                ids.append(self._phrases[found.group()])
                at = found.end()
            ids += self.spelt(part[at:])
        return ids


def save(folder: Path) -> PreTrainedTokenizerFast:
    tokenizer = build()
    tokenizer.save_pretrained(folder)
    return tokenizer
