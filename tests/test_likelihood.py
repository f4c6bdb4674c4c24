"""How likely an answer is, as the engine reads it, held against transformers' own forward."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from vlmcli import config, messages
from vlmcli.backends import Engine
from vlmcli.backends.local import engine, processors, prompt
from vlmcli.errors import ModelError
from vlmcli.messages import user

Tiny = Callable[[str], Path]

# Of each kind of tokenizer, of cache and of positions one or more.
FAMILIES = ["idefics3", "llava", "llava_onevision", "qwen2_5_vl", "gemma3", "mllama", "paligemma"]


def load(folder: Path) -> Engine:
    flags = {"model": str(folder), "dtype": "float32", "device": "cpu"}
    return engine.load(config.resolve(flags, {}, {}))


def question(text: str = "is there a cat", colour: str = "red") -> list[messages.Message]:
    pixels = Image.new("RGB", (64, 48), colour)
    return [user(text, [messages.Image("photo.png", pixels, "")])]


def forward(folder: Path, conversation: list[messages.Message], more: list[int]) -> Any:
    """The logits after the prompt and each of the tokens `more`, in one pass of its own."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = dict(prompt.prepare(processors.load(folder, "x"), conversation).inputs)
    length = inputs["input_ids"].shape[1]
    for name, row in inputs.items():
        if row.shape == (1, length):
            tail = torch.tensor([more]) if name == "input_ids" else row[:, -1:].repeat(1, len(more))
            inputs[name] = torch.cat([row, tail.to(row.dtype)], dim=1)
    with torch.inference_mode():
        return model(**inputs).logits[0, length - 1 :].float()


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
    with pytest.raises(ModelError, match="answers no questions"):
        load(tiny(family)).affirm(question())  # type: ignore[misc]
