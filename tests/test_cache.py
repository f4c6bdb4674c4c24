"""A conversation that goes on: only what is new is read, and the answer is the same as without."""

import functools
import gc
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    Cache,
    DynamicCache,
    Idefics3ForConditionalGeneration,
)

from vlmcli import backends, config, messages
from vlmcli.backends import Engine
from vlmcli.backends.local import engine, layers, processors, prompt
from vlmcli.messages import Delta, Done, Message, Sampling, Text, user

Tiny = Callable[[str], Path]

CHATTING = sorted(
    name
    for name, row in tiny_models.FAMILIES.items()
    if row.chat_template is not None and name != "lfm2_vl"  # needs torchvision
)
# Its cross-attention keeps pictures where the others keep one place a token.
GOES_ON = sorted(set(CHATTING) - {"mllama"})
# How it sees a picture depends on whether there is another one.
GOES_ON_WITH_A_PICTURE = sorted({*GOES_ON} - {"llava_onevision"})
SAMPLING = Sampling(max_tokens=10)


def load(folder: Path, **changes: Any) -> Engine:
    flags = {"model": str(folder), "dtype": "float32", "device": "cpu"}
    return engine.load(config.resolve(flags, {}, {}), **changes)


def picture(colour: str, size: tuple[int, int] = (64, 48)) -> messages.Image:
    pixels = Image.new("RGB", size, colour)
    pixels.paste("blue", (0, 0, size[0] // 4, size[1] // 4))
    return messages.Image("photo.png", pixels, "")


def reply(text: str) -> Message:
    return Message("assistant", (Text(text or "x"),))


def say(loaded: Engine, conversation: Sequence[Message], **changes: Any) -> tuple[str, Done]:
    sampling = Sampling(**{"max_tokens": SAMPLING.max_tokens, **changes})
    *deltas, done = loaded.generate(conversation, sampling)
    assert isinstance(done, Done)
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta)), done


class Talk:
    """A conversation with one engine, every answer of which is held against a fresh one's."""

    def __init__(self, folder: Path) -> None:
        self.loaded = load(folder)
        self.fresh = load(folder, remembers=False)
        self.turns: list[Message] = []

    def ask(self, text: str, *seen: messages.Image) -> int:
        """Ask one more question; the number of tokens that were known."""
        self.turns.append(user(text, seen))
        return self.again()

    def again(self) -> int:
        answer, done = say(self.loaded, self.turns)
        expected, alone = say(self.fresh, self.turns)
        assert answer == expected
        assert (done.prompt_tokens, alone.cached_tokens) == (alone.prompt_tokens, 0)
        self.answer = answer
        return done.cached_tokens

    def accept(self) -> None:
        self.turns.append(reply(self.answer))

    def undo(self, count: int) -> None:
        del self.turns[-count:]


@pytest.mark.parametrize("family", GOES_ON)
def test_a_conversation_goes_on_and_is_said_again_and_undone(tiny: Tiny, family: str) -> None:
    talk = Talk(tiny(family))

    assert talk.ask("what is in the picture?", picture("red")) == 0
    talk.accept()
    assert talk.ask("and what colour is the dog?") > 0
    talk.accept()
    joined = talk.ask("is this one the same?", picture("green", (48, 96)))
    assert joined > 0 or family not in GOES_ON_WITH_A_PICTURE
    assert talk.again() > joined  # /regen
    talk.accept()
    assert talk.ask("yes or no?") > joined
    talk.undo(3)  # the third question with its answer, and the fourth one
    assert talk.ask("is this one, then?", picture("white")) > 0 or family == "llava_onevision"


@pytest.mark.parametrize("family", CHATTING)
def test_every_turn_says_what_transformers_own_generate_says(tiny: Tiny, family: str) -> None:
    loaded, folder = load(tiny(family)), tiny(family)
    processor = processors.load(folder, family)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    turns = [user("what is in the picture?", [picture("red")])]
    for question in ("and the cat?", "is it red?", ""):
        answer, done = say(loaded, turns)
        inputs = prompt.prepare(processor, turns).inputs
        ids = model.generate(**inputs, max_new_tokens=done.new_tokens, do_sample=False)[0]
        said = processor.tokenizer.decode(ids[-done.new_tokens :], skip_special_tokens=True)
        assert answer == said.strip()
        turns += [reply(answer), user(question)]
        if family == "mllama":
            assert done.cached_tokens == 0


# ---- pictures


def eyes(folder: Path) -> type[torch.nn.Module]:
    """The kind of module that looks at pictures in this model."""
    model = AutoModelForImageTextToText.from_pretrained(folder)
    return type(model.get_encoder(modality="image"))


@pytest.mark.parametrize("family", GOES_ON_WITH_A_PICTURE)
def test_each_picture_is_looked_at_once(tiny: Tiny, family: str) -> None:
    looks: list[int] = []
    kind = eyes(tiny(family))

    def count(module: Any, args: Any, kwargs: dict[str, Any], _out: Any) -> None:
        if type(module) is kind:
            given = next(x for x in [*args, *kwargs.values()] if isinstance(x, torch.Tensor))
            looks.append(given.numel())

    loaded = load(tiny(family))
    turns = [user("what is in the picture?", [picture("red")])]
    hook = torch.nn.modules.module.register_module_forward_hook(count, with_kwargs=True)
    try:
        answer, _ = say(loaded, turns)
        (first,) = looks
        turns += [reply(answer), user("sure?")]
        answer, _ = say(loaded, turns)
        assert looks == [first]
        say(loaded, [*turns, reply(answer), user("and this?", [picture("green")])])
        assert looks == [first, first]  # the second one alone, and as large
    finally:
        hook.remove()


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl", "gemma3", "llava"])
def test_a_picture_with_other_pixels_is_another_one(tiny: Tiny, family: str) -> None:
    """Though its name, its size and all tokens of the prompt are those of the first."""
    talk = Talk(tiny(family))
    talk.ask("what is in the picture?", picture("red"))
    before = talk.answer
    talk.undo(1)
    talk.ask("what is in the picture?", picture("green"))
    assert talk.answer != before


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl", "gemma3"])
def test_pictures_in_another_order_are_other_ones(tiny: Tiny, family: str) -> None:
    talk = Talk(tiny(family))
    red, green = picture("red"), picture("green")
    talk.ask("which is first?", red, green)
    talk.undo(1)
    talk.ask("which is first?", green, red)


@pytest.mark.parametrize("family", ["smolvlm", "qwen3_vl"])
def test_another_question_about_the_same_picture_reads_the_picture_once(
    tiny: Tiny, family: str
) -> None:
    talk = Talk(tiny(family))
    talk.ask("what is in the picture?", picture("red"))
    talk.undo(1)
    known = talk.ask("is there a cat?", picture("red"))
    assert known > 8 and known < len(talk.answer) + 100


def test_the_same_picture_after_other_words_is_read_again(tiny: Tiny) -> None:
    talk = Talk(tiny("smolvlm"))
    for words in ("the red", "the blue in the picture, and the dog", "the"):
        talk.turns = [messages.system(words), user("which?", [picture("red")])]
        assert talk.again() == 0
    talk.turns[0] = messages.system("the cat")
    assert talk.again() == 0


# ---- what is kept


def caches() -> int:
    """How many are in memory."""
    gc.collect()
    return sum(type(x) is DynamicCache for x in gc.get_objects())


def test_a_conversation_that_shares_nothing_frees_the_last_one(tiny: Tiny) -> None:
    loaded = load(tiny("smolvlm"))
    before = caches()
    for colour in ("red", "green", "white"):
        _, done = say(loaded, [user("what is in the picture?", [picture(colour)])])
        assert done.cached_tokens == 0
        assert caches() == before + 1


def test_the_last_one_is_freed_before_the_next_is_read(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load(tiny("idefics3"))
    alive: list[int] = []
    forward = Idefics3ForConditionalGeneration.forward

    @functools.wraps(forward)  # `generate` looks at its parameters
    def watched(*args: Any, **kwargs: Any) -> Any:
        alive.append(caches())
        return forward(*args, **kwargs)

    say(loaded, [user("what is in the picture?", [picture("red")])], max_tokens=1)
    monkeypatch.setattr(Idefics3ForConditionalGeneration, "forward", watched)
    before = caches()
    say(loaded, [user("what is in the picture?", [picture("green")])], max_tokens=1)
    assert alive == [before]


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl", "gemma3"])
def test_an_answer_that_is_broken_off_is_gone_on_from(tiny: Tiny, family: str) -> None:
    talk = Talk(tiny(family))
    talk.turns = [user("what is in the picture?", [picture("red")])]
    for _ in range(3):
        chunks = talk.loaded.generate(talk.turns, Sampling(max_tokens=500))
        begun = next(chunk.text for chunk in chunks if isinstance(chunk, Delta))
        chunks.close()  # type: ignore[attr-defined]
        talk.turns += [reply(begun), user("go on")]
    assert talk.again() > 0
    assert talk.again() > 0


def test_an_answer_that_fails_leaves_nothing_behind(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = Talk(tiny("idefics3"))
    talk.ask("what is in the picture?", picture("red"))
    talk.accept()
    layer = type(AutoModelForImageTextToText.from_pretrained(tiny("idefics3")).model.text_model)
    with monkeypatch.context() as patch:
        forward = layer.forward

        def half(self: Any, *args: Any, **kwargs: Any) -> Any:
            forward(self, *args, **kwargs)
            raise MemoryError

        patch.setattr(layer, "forward", half)
        with pytest.raises(Exception, match="ran out of memory"):
            say(talk.loaded, [*talk.turns, user("and?")])
    assert talk.ask("and the dog?") == 0


def test_two_answers_at_once_do_not_mix(tiny: Tiny) -> None:
    loaded, fresh = load(tiny("qwen2_5_vl")), load(tiny("qwen2_5_vl"), remembers=False)
    one = [user("what is in the picture?", [picture("red")])]
    other = [user("is there a cat?", [picture("green", (48, 96))])]
    begun = loaded.generate(one, Sampling(max_tokens=40))
    first = next(begun)

    assert say(loaded, other, max_tokens=40)[0] == say(fresh, other, max_tokens=40)[0]

    rest = "".join(chunk.text for chunk in [first, *begun] if isinstance(chunk, Delta))
    assert rest == say(fresh, one, max_tokens=40)[0]


@pytest.mark.parametrize("family", ["smolvlm", "qwen3_vl"])
def test_a_seed_gives_the_same_text_with_what_is_known(tiny: Tiny, family: str) -> None:
    loaded, fresh = load(tiny(family)), load(tiny(family), remembers=False)
    turns = [user("what is in the picture?", [picture("red")])]
    chance = {"temperature": 1.0, "seed": 7, "repetition_penalty": 1.2}
    for _ in range(3):
        answer, done = say(loaded, turns, **chance)
        assert answer == say(fresh, turns, **chance)[0]
        turns += [reply(answer), user("and now?")]
    assert done.cached_tokens > 0


# ---- models that do not allow it


@pytest.mark.parametrize("rewind_tokens", [0, 20])
def test_a_sliding_layer_that_has_forgotten_too_much_reads_again(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, rewind_tokens: int
) -> None:
    monkeypatch.setattr(layers, "REWIND_TOKENS", rewind_tokens)
    talk = Talk(tiny("gemma4"))  # one of its two layers has a window of 64 tokens
    talk.ask("what is in the picture?", picture("red"))
    talk.accept()
    talk.ask("and what colour is the dog? " * 2)
    talk.undo(1)
    assert talk.ask("no, the cat?") == 0
    assert (talk.again() > 0) == (rewind_tokens == 20)  # as far back as an answer


def test_a_model_that_looks_ahead_reads_every_prompt_from_its_start(tiny: Tiny) -> None:
    """PaliGemma's question changes how the picture before it is read."""
    loaded, fresh = load(tiny("paligemma")), load(tiny("paligemma"), remembers=False)
    for question in ("what is in the picture?", "what is in the red?"):
        conversation = [user(question, [picture("red")])]
        answer, done = say(loaded, conversation)
        assert (answer, done.cached_tokens) == (say(fresh, conversation)[0], 0)


def with_config(source: Path, folder: Path, file: str, change: Callable[[Any], None]) -> Path:
    shutil.copytree(source, folder)
    data = json.loads((folder / file).read_text())
    change(data)
    (folder / file).write_text(json.dumps(data))
    return folder


def test_a_rope_that_changes_with_the_length_reads_every_prompt_from_its_start(
    tiny: Tiny, tmp_path: Path
) -> None:
    def dynamic(data: Any) -> None:
        data["text_config"]["max_position_embeddings"] = 90  # crossed by the second turn
        rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 40.0}
        data["text_config"]["rope_parameters"] = rope

    talk = Talk(with_config(tiny("llava"), tmp_path / "model", "config.json", dynamic))
    talk.ask("what is in the picture?", picture("red"))
    talk.accept()
    assert talk.ask("and?") == 0


@pytest.mark.parametrize(("kind", "goes_on"), [("hybrid", True), ("dynamic", False)])
def test_settings_may_name_a_kind_of_cache(
    tiny: Tiny, tmp_path: Path, kind: str, goes_on: bool
) -> None:
    """Gemma 3 is published with "hybrid"."""

    def named(data: Any) -> None:
        data["cache_implementation"] = kind

    file = "generation_config.json"
    talk = Talk(with_config(tiny("gemma3"), tmp_path / "model", file, named))
    talk.ask("what is in the picture?", picture("red"))
    talk.accept()
    assert (talk.ask("and?") > 0) == goes_on


def known_tokens(cache: Cache | None) -> int:
    return 0 if cache is None else cache.get_seq_length()


def test_a_model_that_refuses_to_go_on_reads_the_prompt_from_its_start(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Idefics3ForConditionalGeneration.forward
    refused: list[int] = []

    @functools.wraps(forward)
    def refusing(self: Any, *args: Any, **kwargs: Any) -> Any:
        if known_tokens(kwargs["past_key_values"]) and kwargs["input_ids"].shape[1] > 1:
            refused.append(1)
            raise ValueError("one token at a time, please")
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Idefics3ForConditionalGeneration, "forward", refusing)
    talk = Talk(tiny("idefics3"))
    talk.ask("what is in the picture?", picture("red"))
    talk.accept()
    for _ in range(2):
        assert talk.ask("and?") == 0
        talk.accept()
    assert refused == [1]


def test_an_answer_that_fails_in_the_middle_is_not_begun_once_more(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed = torch.nn.Embedding.forward
    tokens_left = [10_000]

    def failing(self: Any, ids: torch.Tensor) -> torch.Tensor:
        tokens_left[0] -= ids.numel() == 1
        if tokens_left[0] < 0:
            raise ValueError("too much")
        return embed(self, ids)

    monkeypatch.setattr(torch.nn.Embedding, "forward", failing)
    loaded = load(tiny("idefics3"))
    turns = [user("what is in the picture?", [picture("red")])]
    turns += [reply(say(loaded, turns)[0]), user("and?")]
    whole, _ = say(load(tiny("idefics3"), remembers=False), turns)
    tokens_left[0] = 5
    said = ""
    with pytest.raises(ValueError, match="too much"):
        for chunk in loaded.generate(turns, SAMPLING):
            said += chunk.text if isinstance(chunk, Delta) else ""
    assert said and said != whole and whole.startswith(said)


def test_a_model_that_drops_new_pictures_is_found_out(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Idefics3ForConditionalGeneration.prepare_inputs_for_generation
    dropped: list[int] = []

    def dropping(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = prepare(self, *args, **kwargs)
        if known_tokens(kwargs["past_key_values"]):
            seen = [given.pop(name, None) for name in ("pixel_values", "mm_encoder_outputs")]
            dropped.extend(1 for one in seen if one is not None)
        return given

    monkeypatch.setattr(Idefics3ForConditionalGeneration, "prepare_inputs_for_generation", dropping)
    talk = Talk(tiny("idefics3"))
    talk.ask("what is in the picture?", picture("red"))
    talk.accept()
    assert talk.ask("and in this one?", picture("green")) == 0
    assert dropped == [1]


# ---- what the engine says


def test_the_engine_previews_as_the_reader_does(tiny: Tiny) -> None:
    loaded = load(tiny("smolvlm"))
    settings = config.resolve({"model": str(tiny("smolvlm"))}, {}, {})
    turns = [user("which?", [picture("red"), picture("green", (48, 96))])]

    assert loaded.preview is not None
    shown = loaded.preview(turns)
    assert shown == backends.read(settings).preview(turns)
    assert shown.prompt_tokens == say(loaded, turns)[1].prompt_tokens
    assert [image.size for image in shown.images] == [(64, 48), (48, 96)]
    assert loaded.context_tokens == 4096
