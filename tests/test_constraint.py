"""`--schema` and `-x`: an answer in the form that a program reads."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from conftest import DATA, FakeEngine, Run, draw
from PIL import Image
from terminal import spawn

from vlmcli import config, messages
from vlmcli.backends.local import engine, processors
from vlmcli.backends.local.constraint import Constraint
from vlmcli.backends.local.thoughts import ALL_MARKS, Thoughts
from vlmcli.errors import ModelError
from vlmcli.messages import Delta, Done, Sampling, user

Tiny = Callable[[str], Path]

FAMILIES = ["blip-2", "gemma3", "idefics3", "llava", "llava_onevision", "mllama", "qwen2_5_vl"]
# All bounded: a model of random weights ends nothing of itself.
SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "tags": {"type": "array", "items": {"enum": ["a", "b é", "c"]}, "maxItems": 3},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": False,
    },
    {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    {"enum": ["red", "blue \"sky\"", 3, None]},
    {
        "properties": {
            "when": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}$"},
            "who": {"$ref": "#/$defs/who"},
        },
        "required": ["who"],
        "$defs": {
            "who": {
                "type": "object",
                "properties": {"n": {"anyOf": [{"type": "null"}, {"const": "x"}]}},
                "required": ["n"],
            }
        },
    },
]  # fmt: skip


def question(colour: str = "red") -> list[messages.Message]:
    pixels = Image.new("RGB", (64, 48), colour)
    return [user("what is there", [messages.Image("photo.png", pixels, "")])]


def load(model: object) -> Any:
    flags = {"model": str(model), "dtype": "float32", "device": "cpu"}
    return engine.load(config.resolve(flags, {}, {}))


def said(loaded: Any, schema: object, **changes: Any) -> tuple[str, Done]:
    sampling = Sampling(**{"max_tokens": 200, "schema": json.dumps(schema), **changes})
    *deltas, done = loaded.generate(question(), sampling)
    return "".join(delta.text for delta in deltas if isinstance(delta, Delta)), done


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_valid_whatever_the_model(tiny: Tiny, family: str) -> None:
    """28 of each family: 196, and those of the model that ships inside."""
    loaded = load(tiny(family))
    answers = {}
    for schema in SCHEMAS:
        for seed in range(7):
            sampling = {"temperature": 1.0 * (seed > 0), "seed": seed}
            text, done = said(loaded, schema, **sampling)
            jsonschema.validate(json.loads(text), schema)
            assert done.reason == "stop"
            answers[text] = True
    assert len(answers) > 10  # and they differ


@pytest.mark.parametrize("schema", SCHEMAS)
def test_the_built_in_model_keeps_to_a_schema(run: Run, schema: dict[str, Any]) -> None:
    command = ("ask", DATA / "chart.png", "which bar is highest?", "-m", "builtin")
    code, out, err = run(*command, "--schema", json.dumps(schema), "--json")
    assert (code, err) == (0, "")
    record = json.loads(out)
    jsonschema.validate(record["data"], schema)
    assert json.loads(record["text"]) == record["data"]


def test_a_second_question_about_a_picture_reads_it_once_with_a_schema_too(tiny: Tiny) -> None:
    loaded, fresh = load(tiny("idefics3")), load(tiny("idefics3"))
    said(loaded, SCHEMAS[1])
    again, done = said(loaded, SCHEMAS[0])
    assert again == said(fresh, SCHEMAS[0])[0]
    assert done.cached_tokens > (done.image_tokens or 0)


def test_a_family_that_answers_nothing_fills_in_nothing(tiny: Tiny) -> None:
    with pytest.raises(ModelError, match="answers no questions"):
        said(load(tiny("git")), SCHEMAS[0])


# ---- thoughts


class Steps:
    """What may come next for a tokenizer that knows <think>, step by step."""

    def __init__(self, folder: Path, *, opened: bool = False) -> None:
        processor = processors.load(folder, "x")
        self.tokenizer = processor.tokenizer
        self.thoughts = Thoughts(ALL_MARKS[:1], ALL_MARKS[0] if opened else None)
        self.ends = [self.tokenizer.eos_token_id]
        schema = json.dumps(SCHEMAS[1])
        self.constraint = Constraint(processor, schema, self.thoughts, ALL_MARKS[:1], self.ends)

    def allowed(self) -> set[str]:
        scores = self.constraint(torch.empty(1, 0), torch.zeros(1, len(self.tokenizer)))
        tokens = scores.isfinite()[0].nonzero().flatten().tolist()
        return {self.tokenizer.decode([token]) for token in tokens}

    def say(self, text: str) -> None:
        for token in self.tokenizer.encode(text, add_special_tokens=False):
            self.thoughts.push(self.tokenizer.decode([token]))
            self.constraint.take(token)


@pytest.mark.parametrize("opened", [False, True])
def test_thoughts_are_free_and_the_schema_begins_after_them(tiny: Tiny, opened: bool) -> None:
    steps = Steps(tiny("qwen3_vl"), opened=opened)
    if not opened:
        assert steps.allowed() == {"[", "<think>", "<"}
        steps.say("<think>")
    steps.say("a cat {")
    assert {"a", " cat", "}", "</think>"} <= steps.allowed()
    assert not steps.allowed() & {steps.tokenizer.decode(steps.ends)}
    steps.say("</think>")
    assert steps.allowed() == {"["}
    steps.say("[true, false")
    assert steps.allowed() == {",", "]"}
    steps.say("]")
    assert steps.constraint.complete and "]" not in steps.allowed()


def test_a_model_that_can_think_need_not(tiny: Tiny) -> None:
    steps = Steps(tiny("qwen3_vl"))
    steps.say("[")
    assert "<think>" not in steps.allowed() and "t" in steps.allowed()
    steps.say("true, true, true, true]")
    assert steps.constraint.complete


def test_a_mark_in_pieces_is_a_mark(tiny: Tiny) -> None:
    steps = Steps(tiny("qwen3_vl"))
    (piece,) = steps.tokenizer.encode("<", add_special_tokens=False)
    steps.thoughts.push("<")
    steps.constraint.take(piece)
    assert steps.allowed() == {"t"}


# ---- the command

RED = '{"colour": "red"}'


def test_the_schema_is_told_to_the_model_and_bounds_it(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    fake_engine.answers = [RED.replace('"r', '"|r')]
    assert run("ask", picture, "what?", "--schema", "colour") == (0, f"{RED}\n", "")
    (conversation, sampling), *_ = fake_engine.calls
    (words,) = conversation[-1].texts
    assert words.startswith("what?\nAnswer with JSON of this schema")
    assert words.endswith(sampling.schema) and '"colour"' in sampling.schema


def test_a_record_has_the_text_the_data_and_the_question_as_it_was(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    fake_engine.answers = [RED]
    record = json.loads(run("ask", picture, "what?", "--json-schema", "colour", "--json")[1])
    assert (record["text"], record["data"]) == (RED, {"colour": "red"})
    assert record["prompt"] == "what?"
    assert json.loads(record["settings"]["schema"])["required"] == ["colour"]


def test_any_number_of_them(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    fake_engine.answers = [f'{{"items": [{RED}, {RED}]}}']
    code, out, err = run("caption", picture, "--schema-multi", "colour")
    assert (code, out, err) == (0, f"{fake_engine.answers[0]}\n", "")


@pytest.mark.parametrize(
    ("reason", "said_of_it"),
    [("length", "cut at 1 tokens"), ("loop", "repeated itself"), ("stop", "leave out --stop")],
)
@pytest.mark.parametrize("how", [(), ("--no-stream",), ("--json",)])
def test_an_answer_that_is_cut_is_never_taken_for_good(
    run: Run,
    picture: Path,
    fake_engine: FakeEngine,
    reason: str,
    said_of_it: str,
    how: tuple[str, ...],
) -> None:
    fake_engine.answers, fake_engine.reason = ['{"colour": "re'], reason
    code, out, err = run("ask", picture, "what?", "--schema", "colour", *how)
    assert (code, out) == (3, "" if how else '{"colour": "re\n')
    assert err.startswith(f"vlm: {picture}: ") and said_of_it in err and err.count("\n") == 1


def test_one_answer_that_is_cut_does_not_end_a_run(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    fake_engine.answers = ['{"colour', RED]
    code, out, err = run("caption", a, b, "--schema", "colour")
    assert (code, out) == (3, f"{b}\t{RED}\n")
    assert f"vlm: {a}: the answer ended" in err and "1 of 2 failed" in err


def test_a_schema_that_is_none_is_named_before_a_model_loads(
    run: Run, picture: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("ask", picture, "what?", "--schema", "age foo")
    assert (code, out) == (2, "") and err.startswith("vlm: --schema: 'age foo': no type")
    monkeypatch.setenv("VLM_SCHEMA", '{"type": "array", "uniqueItems": true}')
    code, out, err = run("ask", picture, "what?")
    assert code == 2 and err.startswith("vlm: VLM_SCHEMA: at the top: ")
    assert fake_engine.loads == []


def test_a_dry_run_shows_the_schema_in_the_prompt(run: Run) -> None:
    command = ("ask", DATA / "chart.png", "what?", "-m", "builtin", "--schema", "colour")
    code, out, _ = run(*command, "--dry-run")
    assert code == 0 and '{"type": "object", "properties": {"colour"' in json.loads(out)["prompt"]


def test_on_a_terminal_json_is_no_markdown() -> None:
    text = '{"a": "*x* `y` [b]c[/b] __d__"}'
    command = ["ask", str(DATA / "chart.png"), "max?", "-m", "builtin", "--schema"]
    schema = json.dumps({"const": json.loads(text)})
    terminal = spawn([sys.executable, "-m", "vlmcli", *command, schema])
    assert terminal.wait(60) == 0
    assert text in "".join(terminal.screen())


# ---- -x

BLOCK = "Here:\n\n```python\nprint('*a*')\n\nx = 1\n```\n\nand\n\n~~~\nnot this\n~~~\n"


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (BLOCK, "print('*a*')\n\nx = 1"),
        ("~~~\na\n~~~", "a"),
        ("```html\n<p>\n", "<p>"),
        ("````\n```\nin it\n```\n````", "```\nin it\n```"),
        ("No `code` here.", "No `code` here."),
        ("```\n```", ""),
    ],
)
@pytest.mark.parametrize("flag", ["-x", "--extract"])
def test_only_the_first_code_block_is_printed(
    run: Run, picture: Path, fake_engine: FakeEngine, answer: str, printed: str, flag: str
) -> None:
    fake_engine.answers = [answer]
    assert run("ask", picture, "code?", flag) == (0, f"{printed}\n", "")
    assert json.loads(run("ask", picture, "code?", flag, "--json")[1])["text"] == printed


def test_extraction_is_a_setting_as_the_others(
    run: Run, picture: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engine.answers = [BLOCK]
    monkeypatch.setenv("VLM_EXTRACT", "yes")
    assert run("ask", picture, "code?")[1].startswith("print(")
    assert run("ask", picture, "code?", "--no-extract")[1] == BLOCK
