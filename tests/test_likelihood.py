"""How likely an answer is, as the engine reads it, held against transformers' own forward."""

import json
import math
import random
import shutil
from collections.abc import Callable
from functools import cache as kept
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from vlmcli import config, messages
from vlmcli.backends import Engine
from vlmcli.backends.local import cache, engine, likelihood, processors, prompt, spelling
from vlmcli.errors import ModelError
from vlmcli.messages import Sampling, Thought, user

Tiny = Callable[[str], Path]

# Of each kind of tokenizer, of cache and of positions one or more.
CHATTING = {n for n, row in tiny_models.FAMILIES.items() if row.chat_template is not None}
# Needs torchvision; keeps pictures elsewhere; has no template, but reads as the others do.
SIDE_BY_SIDE = sorted(CHATTING - {"lfm2_vl", "mllama"} | {"paligemma"})
FAMILIES = ["idefics3", "llava", "llava_onevision", "qwen2_5_vl", "gemma3", "mllama", "paligemma"]


def load(folder: Path) -> Engine:
    flags = {"model": str(folder), "dtype": "float32", "device": "cpu"}
    return engine.load(config.resolve(flags, {}, {}))


def question(text: str = "is there a cat", colour: str = "red") -> list[messages.Message]:
    pixels = Image.new("RGB", (64, 48), colour)
    return [user(text, [messages.Image("photo.png", pixels, "")])]


@kept
def weights(folder: Path) -> Any:
    return AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()


def forward(folder: Path, conversation: list[messages.Message], more: list[int]) -> Any:
    """The logits after the prompt and each of the tokens `more`, in one pass of its own."""
    made, length = passed(folder, conversation, more)
    return made.logits[0, length - 1 :].float()


def hidden(folder: Path, more: list[int]) -> Any:
    """What the logits after the question and the tokens `more` are made of."""
    return passed(folder, question(), more)[0].hidden_states[-1][0, -1]


def passed(folder: Path, conversation: list[messages.Message], more: list[int]) -> Any:
    """What a forward pass makes, and how long the prompt is."""
    model = weights(folder)
    inputs = dict(prompt.prepare(processors.load(folder, "x"), conversation).inputs)
    length = inputs["input_ids"].shape[1]
    for name, row in inputs.items():
        if row.shape == (1, length):
            tail = torch.tensor([more]) if name == "input_ids" else row[:, -1:].repeat(1, len(more))
            inputs[name] = torch.cat([row, tail.to(row.dtype)], dim=1)
    with torch.inference_mode():
        return model(**inputs, output_hidden_states=True), length


@pytest.mark.parametrize("family", FAMILIES)
def test_yes_and_no_are_as_likely_as_transformers_own_forward_says(tiny: Tiny, family: str) -> None:
    folder = tiny(family)
    chances = forward(folder, question(), []).softmax(-1)[0]
    tokenizer = processors.load(folder, "x").tokenizer
    texts = [tokenizer.decode([n]).strip().lower() for n in range(len(tokenizer))]
    yes, no = (
        sum(float(chances[n]) for n, text in enumerate(texts) if text == word)
        for word in ("yes", "no")
    )

    verdict = load(folder).affirm(question())  # type: ignore[misc]

    assert verdict.yes == pytest.approx(yes, rel=1e-3)
    assert verdict.no == pytest.approx(no, rel=1e-3)
    assert 0 < yes < 1 and yes != no


@pytest.mark.parametrize("family", ["blip", "git", "florence2"])
def test_what_only_describes_pictures_says_so(tiny: Tiny, family: str) -> None:
    loaded = load(tiny(family))
    with pytest.raises(ModelError, match="answers no questions"):
        loaded.affirm(question())  # type: ignore[misc]
    with pytest.raises(ModelError, match="answers no questions"):
        loaded.choose(question(), ["cat", "dog"])  # type: ignore[misc]


def test_yes_in_pieces_counts_as_yes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny("idefics3")
    loaded = load(folder)
    whole = loaded.affirm(question())  # type: ignore[misc]
    monkeypatch.setattr(likelihood, "_words", lambda _: {"yes": [], "no": []})

    spelt = loaded.affirm(question())  # type: ignore[misc]

    expected = by_hand(folder, ["yes", "no"], ends=False)
    assert (spelt.yes, spelt.no) == pytest.approx(tuple(expected), rel=1e-3)
    assert spelt.yes > whole.yes and spelt.no > whole.no


# ---- choices

CHOICES = ["cat", "ca", "a b"]


def spellings(tokenizer: Any, text: str) -> list[list[int]]:
    """Every way to make the text of tokens, found by decoding each token behind another one."""
    (before,) = tokenizer.encode("o", add_special_tokens=False)[-1:]
    start = len(tokenizer.decode([before]))
    special = set(tokenizer.all_special_ids)
    pieces = {
        n: piece
        for n in range(len(tokenizer))
        if n not in special and (piece := tokenizer.decode([before, n])[start:]).isascii() and piece
    }

    def ways(rest: str) -> list[list[int]]:
        if not rest:
            return [[]]
        return [
            [n, *more]
            for n, piece in pieces.items()
            if rest.startswith(piece)
            for more in ways(rest[len(piece) :])
        ]

    return ways(text)


def by_hand(folder: Path, choices: list[str], *, ends: bool = True) -> list[float]:
    """The probability of each choice: every spelling of it in a forward pass of its own."""
    tokenizer = processors.load(folder, "x").tokenizer
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    stops = sorted({*stops, tokenizer.eos_token_id})
    forms = [[c, c.capitalize(), *([] if ends else [c.upper()])] for c in choices]
    return [
        sum(
            likelihood_of(folder, tokens, stops if ends else None)
            for form in of_one
            for text in (form, f" {form}")
            for tokens in spellings(tokenizer, text)
        )
        for of_one in forms
    ]


def likelihood_of(folder: Path, tokens: list[int], stops: list[int] | None) -> float:
    chances = forward(folder, question(), tokens).double().log_softmax(-1)
    said = sum(float(chances[at, token]) for at, token in enumerate(tokens))
    end = 0.0 if stops is None else float(chances[-1, stops].logsumexp(0))
    return math.exp(said + end)


@pytest.mark.parametrize("family", ["idefics3", "llava", "qwen2_5_vl", "gemma3", "blip-2"])
def test_choices_are_as_likely_as_all_their_spellings_together(tiny: Tiny, family: str) -> None:
    folder = tiny(family)
    chances = by_hand(folder, CHOICES)

    chosen = load(folder).choose(question(), CHOICES)  # type: ignore[misc]

    assert sum(chosen.probabilities) == pytest.approx(1)
    expected = [chance / sum(chances) for chance in chances]
    assert chosen.probabilities == pytest.approx(expected, abs=spelling.PRECISION)
    assert max(expected) < 0.999  # there was something to tell apart


@pytest.mark.parametrize("family", SIDE_BY_SIDE)
def test_side_by_side_is_as_one_by_one(
    tiny: Tiny, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = ["a dog", "a cat", "x"]
    together = load(tiny(family)).choose(question(), choices)  # type: ignore[misc]
    monkeypatch.setattr(cache.Memory, "known", None)

    alone = load(tiny(family)).choose(question(), choices)  # type: ignore[misc]

    assert alone.probabilities == pytest.approx(together.probabilities, abs=1e-4)


def test_hundreds_of_long_choices_are_told_apart(tiny: Tiny) -> None:
    letters = random.Random(1)
    choices = ["".join(letters.choices("abcdefgh ", k=24)).strip() for _ in range(300)]

    chosen = load(tiny("idefics3")).choose(question(), choices)  # type: ignore[misc]

    assert len(chosen.probabilities) == 300
    assert sum(chosen.probabilities) == pytest.approx(1)


def test_choices_after_a_question_about_the_same_picture_read_it_once(tiny: Tiny) -> None:
    loaded = load(tiny("idefics3"))
    loaded.affirm(question())  # type: ignore[misc]

    again = loaded.choose(question("what is there"), ["cat", "dog"])  # type: ignore[misc]

    fresh = load(tiny("idefics3")).choose(question("what is there"), ["cat", "dog"])  # type: ignore[misc]
    assert again.done.cached_tokens >= again.done.image_tokens  # type: ignore[operator]
    assert again.probabilities == pytest.approx(fresh.probabilities, abs=1e-4)


def test_a_number_format_that_is_too_small_is_given_away(tiny: Tiny, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny("idefics3"), tmp_path / "model")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    model.lm_head.weight.data[:] = torch.nan
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match="no finite probabilities in float32"):
        load(folder).affirm(question())  # type: ignore[misc]


# ---- models that think first

CLOSED = "<think>\n\n</think>\n\n"


def variant(folder: Path, where: Path, end: str) -> Path:
    """A copy whose prompts end with `end`."""
    shutil.copytree(folder, where)
    template = where / "chat_template.jinja"
    template.write_text(f"{template.read_text()}{{{{ {end!r} }}}}")
    return where


def made_to_think(folder: Path, where: Path) -> Path:
    """A copy that begins its answer to the question with <think>, unless it has thought."""
    shutil.copytree(folder, where)
    tokenizer = processors.load(where, "x").tokenizer
    closed = tokenizer.encode(CLOSED, add_special_tokens=False)
    first, after = (hidden(where, tokens) for tokens in ([], closed))
    towards = first - after * (first @ after) / (after @ after)
    model = AutoModelForImageTextToText.from_pretrained(where, dtype=torch.float32)
    think = tokenizer.convert_tokens_to_ids("<think>")
    model.lm_head.weight.data[think] = towards * 30 / (towards @ first)
    model.save_pretrained(where)
    return where


def test_thoughts_that_the_prompt_opens_are_closed(tiny: Tiny, tmp_path: Path) -> None:
    opened = load(variant(tiny("qwen3_vl"), tmp_path / "opened", "<think>\n"))
    closed = load(variant(tiny("qwen3_vl"), tmp_path / "closed", CLOSED))
    open_, plain = opened.choose(question(), CHOICES), closed.choose(question(), CHOICES)  # type: ignore[misc]
    assert open_.probabilities == pytest.approx(plain.probabilities, abs=1e-4)
    assert opened.affirm(question()).yes == pytest.approx(closed.affirm(question()).yes, rel=1e-3)  # type: ignore[misc]


def test_thoughts_that_the_model_would_begin_are_closed(tiny: Tiny, tmp_path: Path) -> None:
    thinker = made_to_think(tiny("qwen3_vl"), tmp_path / "thinker")
    closed = load(variant(thinker, tmp_path / "closed", CLOSED))
    text, *_ = load(thinker).generate(question(), Sampling(max_tokens=3))
    assert isinstance(text, Thought)
    own, plain = (e.choose(question(), CHOICES) for e in (load(thinker), closed))  # type: ignore[misc]
    assert own.probabilities == pytest.approx(plain.probabilities, abs=1e-4)
