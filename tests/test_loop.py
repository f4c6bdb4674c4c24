"""Our own loop says what transformers' says, by lean steps where the model is of their shape."""

import gc
import json
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)

from vlmcli import config, messages, wording
from vlmcli.backends.local import decode, engine, lean, linears, loop, processors, prompt
from vlmcli.backends.local.inputs import Prompt
from vlmcli.backends.local.processors import Processor
from vlmcli.backends.local.steps import Forward, Steps
from vlmcli.messages import Delta, Done, Sampling, user

Tiny = Callable[[str], Path]

LEAN = [
    "idefics3",
    "smolvlm",
    "llava",
    "llava_next",
    "llava_onevision",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
    "internvl",
    "gemma3",
    "granite_docling",
    "got_ocr2",
    "paligemma",
]
BY_THEMSELVES = ["gemma4", "mllama"]  # in our loop, by their own forward
ELSEWHERE = sorted({*tiny_models.FAMILIES} - {*LEAN, *BY_THEMSELVES, "lfm2_vl"})
ONE_OF_EACH = ["smolvlm", "qwen2_5_vl", "qwen3_vl", "gemma3"]


@pytest.fixture
def load(tiny: Tiny) -> Callable[[str], tuple[Any, Processor]]:
    def load_family(family: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Processor]:
        model = AutoModelForImageTextToText.from_pretrained(tiny(family), dtype=dtype).eval()
        return model, processors.load(tiny(family), family)

    return load_family


class Counted:
    """How often a model's own forward ran, and how many lean steps were made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.own = self.lean = 0
        run, step = Forward._run, Steps.step

        def counted_run(*args: Any, **kwargs: Any) -> Any:
            self.own += 1
            return run(*args, **kwargs)

        def counted_step(*args: Any) -> Any:
            self.lean += 1
            return step(*args)

        monkeypatch.setattr(Forward, "_run", counted_run)
        monkeypatch.setattr(Steps, "step", counted_step)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


@cache
def seen(size: tuple[int, int] = (64, 48)) -> messages.Image:
    return messages.Image("photo.png", Image.linear_gradient("L").resize(size).convert("RGB"), "")


CAPTION = messages.Text(wording.CAPTION_STYLES["short"], caption_style="short")


def asked(processor: Processor, text: str | messages.Text = CAPTION) -> Prompt:
    words = messages.Text(text) if isinstance(text, str) else text
    return prompt.prepare(processor, [user(words, [seen()])])


def endless(tokens: int, **settings: Any) -> GenerationConfig:
    """Greedy, and no token ends an answer."""
    return GenerationConfig(
        max_new_tokens=tokens, pad_token_id=0, **{"do_sample": False, **settings}
    )


def by_generate(model: Any, inputs: dict[str, Any], config: GenerationConfig) -> list[list[int]]:
    with torch.inference_mode():
        ids = model.generate(**inputs, generation_config=config)
    return ids[:, inputs["input_ids"].shape[1] :].tolist()  # type: ignore[no-any-return]


def by_loop(
    model: Any, inputs: dict[str, Any], config: GenerationConfig, most: Sequence[int] = ()
) -> list[list[int]]:
    said: list[list[int]] = [[] for _ in inputs["input_ids"]]
    rows = [
        loop.Row(lambda token, one=one: one.append(token), count)  # type: ignore[misc]
        for one, count in zip(said, most or [config.max_new_tokens] * len(said), strict=True)
    ]
    with torch.inference_mode():
        loop.answer(model, inputs, config, rows)
    return said


def without_end(model: Any) -> Any:
    model.generation_config.eos_token_id = None
    return model


# ---- what is said


@pytest.mark.parametrize("family", LEAN)
def test_a_lean_answer_is_that_of_generate_to_the_token(
    load: Any, family: str, counted: Counted
) -> None:
    model, processor = load(family)
    inputs = asked(processor).inputs
    assert loop.suits(without_end(model), processor)
    # Past a window of Gemma's, which is 64 tokens.
    expected = by_generate(model, inputs, endless(80))
    assert by_loop(model, inputs, endless(80)) == expected
    assert (counted.own, counted.lean) == (2, 79)  # the prompt, and one step to compare

    assert by_loop(model, inputs, endless(8)) == [expected[0][:8]]
    assert (counted.own, counted.lean) == (3, 79 + 7)


@pytest.mark.parametrize("family", BY_THEMSELVES)
def test_other_models_answer_by_their_own_forward(load: Any, family: str, counted: Counted) -> None:
    model, processor = load(family)
    inputs = asked(processor).inputs
    assert loop.suits(without_end(model), processor)
    assert by_loop(model, inputs, endless(20)) == by_generate(model, inputs, endless(20))
    assert (counted.own, counted.lean) == (20, 0)


@pytest.mark.parametrize("family", ELSEWHERE)
def test_what_our_loop_is_not_for_is_left_to_generate(load: Any, family: str) -> None:
    assert not loop.suits(*load(family))


def test_in_16_bits_a_lean_answer_is_that_of_generate_too(load: Any, counted: Counted) -> None:
    """Each operation rounds as that of the model does."""
    model, processor = load("idefics3", torch.bfloat16)
    inputs = decode.on_device(asked(processor).inputs, without_end(model))
    assert by_loop(model, inputs, endless(40)) == by_generate(model, inputs, endless(40))
    assert counted.lean == 39


@pytest.mark.parametrize("family", ["smolvlm", "gemma3"])
def test_a_long_answer_outgrows_the_memory_that_was_taken_for_it(load: Any, family: str) -> None:
    model, processor = load(family)
    inputs = asked(processor).inputs
    model = without_end(model)
    assert by_loop(model, inputs, endless(300)) == by_generate(model, inputs, endless(300))


def test_the_settings_of_an_answer_reach_its_tokens(load: Any) -> None:
    model, processor = load("smolvlm")
    inputs = asked(processor).inputs
    settings = endless(30, repetition_penalty=1.3, no_repeat_ngram_size=2)
    expected = by_generate(without_end(model), inputs, settings)
    assert by_loop(model, inputs, settings) == expected
    assert expected != by_generate(model, inputs, endless(30))


def test_an_answer_ends_at_the_token_that_ends_answers(load: Any) -> None:
    model, processor = load("smolvlm")
    inputs = asked(processor).inputs
    (whole,) = by_loop(without_end(model), inputs, endless(20))
    model.generation_config.eos_token_id = whole[7]
    (short,) = by_loop(model, inputs, endless(20))
    assert short == whole[: whole.index(whole[7]) + 1]


def test_settings_that_ask_for_another_loop_are_left_to_generate(load: Any) -> None:
    model, processor = load("smolvlm")
    assert loop.suits(model, processor)
    model.generation_config.guidance_scale = 1.5
    assert not loop.suits(model, processor)


# ---- what is believed


def test_a_model_that_computes_otherwise_is_found_out_and_answers_by_itself(
    load: Any, counted: Counted
) -> None:
    """A change that no look at the modules shows: attention of another scale."""
    model, processor = load("smolvlm")
    assert lean.of(without_end(model)) is not None
    for layer in model.get_decoder().layers:
        layer.self_attn.scaling *= 3
    inputs = asked(processor).inputs
    expected = by_generate(model, inputs, endless(20))
    assert by_loop(model, inputs, endless(20)) == expected
    assert counted.lean == 1 and lean.of(model) is None
    assert by_loop(model, inputs, endless(20)) == expected
    assert counted.lean == 1


@pytest.mark.parametrize("place", ["layers.0.mlp", "layers.1.self_attn", ""])
def test_a_model_with_a_part_that_is_not_known_is_not_lean(load: Any, place: str) -> None:
    model, _ = load("smolvlm")
    model.get_decoder().get_submodule(place).extra = torch.nn.Identity()
    assert lean.of(model) is None


def test_a_lean_step_that_fails_when_it_is_tried_is_no_error(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load("smolvlm")

    def failing(*_: Any) -> None:
        raise RuntimeError("shapes")

    monkeypatch.setattr(Steps, "step", failing)
    inputs = asked(processor).inputs
    assert by_loop(without_end(model), inputs, endless(9)) == by_generate(model, inputs, endless(9))


def test_a_model_that_nobody_holds_is_freed(load: Any) -> None:
    model, processor = load("smolvlm")
    by_loop(model, asked(processor).inputs, endless(5))
    assert lean.of(model) is not None
    gone = weakref.ref(model.get_decoder().layers[0].mlp.up_proj.weight)
    del model
    gc.collect()
    assert gone() is None


# ---- rows


def beside(
    processor: Processor, prompts: Sequence[Prompt], pad: int = 0
) -> dict[str, torch.Tensor]:
    """The inputs of prompts about pictures of one size, filled up at their left."""
    longest = max(one.prompt_tokens for one in prompts)
    joined: dict[str, list[torch.Tensor]] = {}
    for one in prompts:
        for name, value in one.inputs.items():
            if value.shape == one.inputs["input_ids"].shape:
                filler = pad if name == "input_ids" else 0
                value = torch.nn.functional.pad(value, (longest - value.shape[1], 0), value=filler)
            joined.setdefault(name, []).append(value)
    return {name: torch.cat(values) for name, values in joined.items()}


QUESTIONS = (
    "what?",
    "is there a dog in the picture?",
    "what colour is the red cat there?",
    "a b c",
)


@pytest.mark.parametrize("family", [*ONE_OF_EACH, "gemma4", "llava"])
def test_rows_side_by_side_say_what_each_says_alone(
    load: Any, family: str, counted: Counted
) -> None:
    model, processor = load(family)
    without_end(model)
    prompts = [asked(processor, question) for question in QUESTIONS]
    alone = [by_loop(model, one.inputs, endless(40))[0] for one in prompts]
    most = [40, 3, 25, 10]
    counted.lean = 0
    said = by_loop(model, beside(processor, prompts), endless(40), most)
    assert said == [tokens[:count] for tokens, count in zip(alone, most, strict=True)]
    assert counted.lean == (0 if family == "gemma4" else 39)


def test_rows_that_have_ended_are_dropped(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = load("smolvlm")
    widths: list[int] = []
    step = Steps.step

    def watched(self: Steps, tokens: torch.Tensor) -> torch.Tensor:
        widths.append(len(tokens))
        return step(self, tokens)

    monkeypatch.setattr(Steps, "step", watched)
    prompts = [asked(processor, question) for question in QUESTIONS]
    by_loop(without_end(model), beside(processor, prompts), endless(12), [12, 3, 6, 9])
    assert widths == [4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1]


def together(
    model: Any, processor: Processor, prompts: Sequence[Prompt], sampling: Sampling
) -> tuple[list[str], list[Done]]:
    texts = [""] * len(prompts)

    def emit(row: int, piece: Any) -> None:
        texts[row] += piece.text

    emits = [partial(emit, row) for row in range(len(prompts))]
    done = decode.generate_texts(
        model, processor, prompts, beside(processor, prompts), sampling, emits
    )
    return texts, done


def alone(model: Any, processor: Processor, one: Prompt, sampling: Sampling) -> tuple[str, Done]:
    pieces: list[str] = []
    done = decode.generate_text(
        model, processor, one, sampling, lambda piece: pieces.append(piece.text)
    )
    return "".join(pieces), done


SAMPLINGS = {
    "greedy": Sampling(max_tokens=20),
    "drawn": Sampling(max_tokens=20, temperature=0.8, top_k=20, seed=11),
    "stopped": Sampling(max_tokens=40, stop=("a", "e")),
    "held to a schema": Sampling(
        max_tokens=40, schema=json.dumps({"type": "object", "properties": {"n": {"enum": [1, 22]}}})
    ),
}


@pytest.mark.parametrize("how", SAMPLINGS)
def test_texts_side_by_side_are_those_of_each_alone(load: Any, how: str) -> None:
    model, processor = load("smolvlm")
    prompts = [asked(processor, question) for question in QUESTIONS]
    texts, done = together(model, processor, prompts, SAMPLINGS[how])
    for text, end, one in zip(texts, done, prompts, strict=True):
        expected, by_itself = alone(model, processor, one, SAMPLINGS[how])
        assert text == expected
        fields = ("reason", "prompt_tokens", "image_tokens", "new_tokens", "seed")
        for name in fields:
            assert getattr(end, name) == getattr(by_itself, name), name
        assert 0 < end.seconds_to_first_token <= end.seconds


def test_one_who_watches_a_row_sees_the_scores_of_that_row_alone(load: Any) -> None:
    model, processor = load("smolvlm")
    prompts = [asked(processor, question) for question in QUESTIONS]
    seen_rows: list[int] = []

    class Watching(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            seen_rows.append(len(scores))
            return torch.zeros_like(scores).index_fill_(1, torch.tensor([70]), 1.0)

    said: list[list[int]] = [[] for _ in prompts]
    rows = [loop.Row(one.append, 2) for one in said]  # type: ignore[arg-type]
    rows[1] = replace(rows[1], held_to=LogitsProcessorList([Watching()]))
    with torch.inference_mode():
        loop.answer(model, beside(processor, prompts), endless(9), rows)
    assert (said[1], seen_rows) == ([70, 70], [1, 1])
    assert [70, 70] not in (said[0], *said[2:])


def test_what_one_row_raises_ends_all(load: Any) -> None:
    model, processor = load("smolvlm")
    prompts = [asked(processor, question) for question in QUESTIONS[:2]]
    count = 0

    def emit(_piece: Any) -> None:
        nonlocal count
        count += 1
        if count == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode.generate_texts(
            model, processor, prompts, beside(processor, prompts), Sampling(), [emit, emit]
        )
    assert count == 7


# ---- through the engine


def test_draws_are_told_by_the_seed_alone_whatever_else_is_drawn(tiny: Tiny) -> None:
    settings = config.resolve({"model": str(tiny("smolvlm")), "dtype": "float32"}, {}, {})
    loaded = engine.load(settings)
    sampling = Sampling(max_tokens=12, temperature=1.0, seed=5)

    def say() -> str:
        chunks = loaded.generate([user("hm?", [seen()])], sampling)
        return "".join(chunk.text for chunk in chunks if isinstance(chunk, Delta))

    first = say()
    torch.manual_seed(99)
    assert say() == first


def test_an_iterator_that_is_closed_stops_the_work_at_the_next_token(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped, go_on = threading.Event(), threading.Event()
    steps: list[int] = []
    step = Steps.step

    def slowly(self: Steps, tokens: torch.Tensor) -> torch.Tensor:
        steps.append(1)
        if len(steps) == 5:
            stepped.set()
            assert go_on.wait(10)
        return step(self, tokens)

    monkeypatch.setattr(Steps, "step", slowly)
    loaded = engine.load(config.resolve({"model": str(tiny("smolvlm"))}, {}, {}))
    chunks: Iterator[Any] = loaded.generate([user("hm?", [seen()])], Sampling(max_tokens=400))
    next(chunks)
    assert stepped.wait(10)
    chunks.close()  # type: ignore[attr-defined]
    go_on.set()
    [*_, done] = loaded.generate([user("hm?", [seen()])], Sampling(max_tokens=1))
    assert isinstance(done, Done) and len(steps) == 5


# ---- layers as one


def plain(rows: int, *, bias: bool = False) -> torch.nn.Linear:
    return torch.nn.Linear(8, rows, bias=bias)


@pytest.mark.parametrize("bias", [False, True])
def test_joined_layers_give_what_they_give_apart_from_the_same_memory(bias: bool) -> None:
    apart = [plain(rows, bias=bias) for rows in (6, 2, 4)]
    x = torch.randn(3, 8)
    before = torch.cat([layer(x) for layer in apart], dim=-1)
    one = linears.joined(apart)
    assert one is not None
    torch.testing.assert_close(one(x), before)
    torch.testing.assert_close(torch.cat([layer(x) for layer in apart], dim=-1), before)
    with torch.no_grad():
        one.weight.zero_()
    assert all(not layer.weight.any() for layer in apart)


def test_layers_that_lie_side_by_side_are_not_copied() -> None:
    memory = torch.randn(10, 8)
    apart = [plain(6), plain(4)]
    apart[0].weight.data, apart[1].weight.data = memory[:6], memory[6:]
    one = linears.joined(apart)
    assert one is not None and one.weight.data_ptr() == memory.data_ptr()
    assert one.weight.shape == (10, 8)


class Quantized(torch.nn.Module):
    """A kind of layer that says itself how it is joined."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    @classmethod
    def joined(cls, some: Sequence["Quantized"]) -> "Quantized":
        return cls(sum(one.number for one in some))


def test_other_kinds_of_layers_are_joined_as_they_say() -> None:
    one = linears.joined([Quantized(1), Quantized(2)])
    assert isinstance(one, Quantized) and one.number == 3


def test_layers_that_differ_or_are_watched_stay_apart() -> None:
    watched = plain(4)
    watched.register_forward_hook(lambda *_: None)
    for pair in (
        [plain(4), Quantized(1)],
        [plain(4), plain(4, bias=True)],
        [plain(4), plain(4).bfloat16()],
        [plain(4), watched],
        [torch.nn.Identity(), torch.nn.Identity()],
    ):
        assert linears.joined(pair) is None


def test_layers_that_stay_apart_answer_lean_all_the_same(
    load: Any, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load("smolvlm")
    calls: list[int] = []
    watched = model.get_decoder().layers[0].mlp.up_proj
    watched.register_forward_hook(lambda *_: calls.append(1))
    inputs = asked(processor).inputs
    expected = by_generate(without_end(model), inputs, endless(20))
    calls.clear()
    assert by_loop(model, inputs, endless(20)) == expected
    assert counted.lean == 19 and len(calls) == 2 + 19
