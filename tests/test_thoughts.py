"""What a reasoning model thinks: told from the answer, shown on stderr, hidden with -R."""

import itertools
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FakeEngine, Run, draw
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from terminal import spawn
from transformers import (
    AutoTokenizer,
    Gemma4ForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

from vlmcli import config, messages
from vlmcli.backends.local import engine
from vlmcli.backends.local.thoughts import ALL_MARKS, Marks, Piece, Thoughts
from vlmcli.messages import Delta, Done, Thought

Tiny = Callable[[str], Path]

THINK = Marks("<think>", "</think>")
# Few characters, so that marks are found, half found and found over one another.
few = st.text("<>/think a\n", max_size=12)


# ---- text


def cut(text: str, places: Sequence[int]) -> list[str]:
    ends = sorted(place % (len(text) + 1) for place in places)
    return [text[a:b] for a, b in itertools.pairwise([0, *ends, len(text)])]


def told(thoughts: Thoughts, pieces: Sequence[str]) -> tuple[str, str]:
    """What was thought, and what was said."""
    out: list[Piece] = [piece for text in pieces for piece in thoughts.push(text)]
    out += thoughts.flush()
    thought = "".join(piece.text for piece in out if isinstance(piece, Thought))
    return thought, "".join(piece.text for piece in out if isinstance(piece, Delta))


cuts = st.lists(st.integers(0, 99), max_size=8)


@given(few, few, cuts, st.sampled_from(ALL_MARKS))
def test_thoughts_come_first_however_the_text_is_cut(
    thought: str, said: str, places: list[int], marks: Marks
) -> None:
    thought = thought.replace(marks.closing, "")
    text = f" \n{marks.opening}{thought}{marks.closing}{said}"

    assert told(Thoughts(ALL_MARKS), cut(text, places)) == (thought, said)


@given(few, few, cuts, st.booleans())
def test_thoughts_may_be_opened_by_the_prompt(
    thought: str, said: str, places: list[int], opens_again: bool
) -> None:
    thought = thought.replace(THINK.closing, "")
    if thought.lstrip().startswith(THINK.opening):
        thought = "x" + thought
    text = f"{THINK.opening * opens_again}{thought}{THINK.closing}{said}"

    assert told(Thoughts((THINK,), THINK), cut(text, places)) == (thought, said)


@given(few, cuts)
def test_a_text_that_begins_otherwise_is_all_answer(text: str, places: list[int]) -> None:
    text = "x" + text
    assert told(Thoughts(ALL_MARKS), cut(f"{text}<think>no</think>", places)) == (
        "",
        f"{text}<think>no</think>",
    )


@given(few, cuts)
def test_without_marks_nothing_is_a_thought(text: str, places: list[int]) -> None:
    assert told(Thoughts(()), cut(f"<think>{text}", places)) == ("", f"<think>{text}")


@given(few, cuts)
def test_thoughts_that_never_end_are_no_answer(text: str, places: list[int]) -> None:
    text = text.replace(THINK.closing, "")
    assert told(Thoughts((THINK,)), cut(f"<think>{text}", places)) == (text, "")


def test_only_what_may_be_a_mark_waits() -> None:
    thoughts = Thoughts((THINK,))
    pieces = ["\n<th", "ink>I ", "see <", "b> </thi", "nk", "> Yes <", "/think>"]

    assert [[piece for piece in thoughts.push(text) if piece.text] for text in pieces] == [
        [],
        [Thought("I ")],
        [Thought("see ")],
        [Thought("<b> ")],
        [],
        [Delta(" Yes <")],
        [Delta("/think>")],
    ]


# ---- models


def scripted(monkeypatch: pytest.MonkeyPatch, kind: type, folder: Path, text: str) -> None:
    """Makes the models of this kind say `text`."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(text, add_special_tokens=False)

    def generate(self: Any, streamer: Any, input_ids: torch.Tensor, **_: Any) -> None:
        streamer.put(input_ids)
        for token in ids:
            streamer.put(torch.tensor([token]))
        streamer.end()

    monkeypatch.setattr(kind, "generate", generate)


def answered(folder: Path, question: str = "what?", **sampling: Any) -> list[Any]:
    settings = config.resolve({"model": str(folder), **sampling}, {}, {})
    seen = [messages.Image("red.png", Image.new("RGB", (64, 48), "red"), "")]
    conversation = [messages.user(question, seen)]
    *chunks, done = engine.load(settings).generate(conversation, settings.sampling)
    assert isinstance(done, Done)
    return chunks


def joined(chunks: list[Any]) -> tuple[str, str]:
    kinds = [type(chunk) for chunk in chunks]
    assert kinds == sorted(kinds, key=[Thought, Delta].index)
    return tuple(  # type: ignore[return-value]
        "".join(chunk.text for chunk in chunks if isinstance(chunk, kind))
        for kind in (Thought, Delta)
    )


def test_a_model_that_thinks_says_so_in_chunks_of_their_own(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny("qwen3_vl")
    text = "<think>\nA cat, é.\n</think>\n\nRed <think>."
    scripted(monkeypatch, Qwen3VLForConditionalGeneration, folder, text)

    chunks = answered(folder)

    assert joined(chunks) == ("A cat, é.", "Red <think>.")
    assert len(chunks) == 10  # they stream


def test_a_template_that_opens_the_thoughts(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(tiny("qwen3_vl"), tmp_path / "thinker")
    template = folder / "chat_template.jinja"
    template.write_text(f"{template.read_text()}{{{{ '<think>\\n' }}}}")
    scripted(
        monkeypatch, Qwen3VLForConditionalGeneration, folder, "A cat.\n</think>\n\nRed.<|im_end|>"
    )

    assert joined(answered(folder)) == ("A cat.", "Red.")


def test_a_question_that_ends_with_a_mark_opens_nothing(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny("qwen3_vl")
    scripted(monkeypatch, Qwen3VLForConditionalGeneration, folder, "It begins a thought.")

    assert joined(answered(folder, "what is <think>")) == ("", "It begins a thought.")


def test_marks_that_are_special_tokens_are_seen(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny("gemma4")
    text = "<|channel>thought\nA cat.<channel|>Red, <channel|>two.<turn|>"
    scripted(monkeypatch, Gemma4ForConditionalGeneration, folder, text)

    assert joined(answered(folder)) == ("A cat.", "Red, two.")


def test_a_stop_string_is_one_of_the_answer(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny("qwen3_vl")
    text = "<think>The cat or the dog?</think>The dog and the cat."
    scripted(monkeypatch, Qwen3VLForConditionalGeneration, folder, text)

    chunks = answered(folder, stop=("cat",))

    assert joined(chunks) == ("The cat or the dog?", "The dog and the")


# ---- commands


@pytest.fixture
def thinker(fake_engine: FakeEngine) -> FakeEngine:
    fake_engine.thoughts = "A cat\x1b[2J?|\nOr [b]not[/b]."
    return fake_engine


CLEAN = "A cat[2J?\nOr [b]not[/b]."


@pytest.mark.parametrize("how", [(), ("--no-stream",)])
def test_the_answer_is_on_stdout_and_the_thoughts_on_stderr(
    run: Run, picture: Path, thinker: FakeEngine, how: tuple[str, ...]
) -> None:
    assert run("ask", picture, "what?", *how) == (0, "A red square.\n", f"{CLEAN}\n")


@pytest.mark.parametrize("command", ["ask", "caption"])
@pytest.mark.parametrize("flag", ["-R", "--hide-reasoning"])
def test_thoughts_are_hidden_if_asked_for(
    run: Run, picture: Path, thinker: FakeEngine, command: str, flag: str
) -> None:
    words = ["what?"] if command == "ask" else []
    assert run(command, picture, *words, flag) == (0, "A red square.\n", "")


def test_hiding_is_a_setting_as_the_others(
    run: Run, picture: Path, thinker: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_HIDE_REASONING", "1")
    assert run("ask", picture, "what?")[2] == ""
    assert run("ask", picture, "what?", "--show-reasoning")[2] == f"{CLEAN}\n"


def test_json_has_thoughts_in_a_field_of_their_own(
    run: Run, picture: Path, thinker: FakeEngine
) -> None:
    code, out, err = run("ask", picture, "what?", "--json")
    answer = json.loads(out)

    assert (code, err) == (0, "")
    assert answer["text"] == "A red square."
    assert answer["reasoning"] == thinker.thoughts.replace("|", "")
    assert "reasoning" not in json.loads(run("ask", picture, "what?", "--json", "-R")[1])
    thinker.thoughts = ""
    assert "reasoning" not in json.loads(run("ask", picture, "what?", "--json")[1])


def test_a_line_for_each_caption_holds_no_thought(
    run: Run, tmp_path: Path, thinker: FakeEngine
) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")

    code, out, err = run("caption", a, b)

    assert (code, out) == (0, f"{a}\tA red square.\n{b}\tA red square.\n")
    assert err == f"{CLEAN}\n" * 2


@pytest.mark.parametrize("form", [(), ("--json",), ("-H",)])
def test_a_model_that_only_thinks_is_given_away(
    run: Run, picture: Path, thinker: FakeEngine, form: tuple[str, ...]
) -> None:
    thinker.answers, thinker.reason = [""], "length"

    code, _, err = run("caption", picture, "-R", *form)

    assert code == 0
    assert "no answer in 1 tokens: -n allows more to think in" in err and err.count("\n") == 1


ON_A_TERMINAL = """
import sys
from vlmcli import output
from vlmcli.messages import Delta, Done, Thought
def chunks():
    yield Thought("A cat")
    yield Thought(",\\nperhaps.")
    if sys.argv[1:]:
        raise RuntimeError("broken off")
    yield Delta("**Red.**")
    yield Done("stop", 76, 64, 12, 1.10, 1.54)
try:
    output.stream(chunks())
except RuntimeError:
    print("the end")
"""


def test_on_a_terminal_thoughts_are_dim_and_end_before_the_answer() -> None:
    terminal = spawn([sys.executable, "-c", ON_A_TERMINAL])
    assert terminal.wait() == 0
    assert terminal.screen() == ["A cat,", "perhaps.", "Red."]
    assert "\x1b[2mA cat\x1b[0m" in terminal.text
    assert "\x1b[2mRed" not in terminal.text


def test_thoughts_that_break_off_end_their_line() -> None:
    terminal = spawn([sys.executable, "-c", ON_A_TERMINAL, "broken"])
    assert terminal.wait() == 0
    assert terminal.screen() == ["A cat,", "perhaps.", "the end"]
