"""`vlm ask`: pictures and a question, or a whole conversation."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeEngine, Run, draw

SYSTEM = "あなたはチャート画像の視覚データを解釈する専門のビジュアル言語モデルです"
QUESTION = "棒グラフの最高値は何ですか？"


def asked(engine: FakeEngine) -> list[tuple[str, list[str]]]:
    """The last conversation: roles, and texts or names of images."""
    conversation, _ = engine.calls[-1]
    return [
        (message.role, [getattr(part, "text", None) or part.name for part in message.content])  # type: ignore[union-attr]
        for message in conversation
    ]


def test_the_question_comes_last_and_pictures_keep_their_order(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    a, b, c = (draw(tmp_path / f"{name}.png") for name in "abc")

    assert run("ask", c, a, "what changed?", "-i", b) == (0, "A red square.\n", "")
    assert asked(fake_engine) == [("user", [str(c), str(a), str(b), "what changed?"])]


@pytest.mark.parametrize("flag", ["-i", "--image", "-a", "--attachment"])
def test_pictures_may_be_options(
    run: Run, picture: Path, fake_engine: FakeEngine, flag: str
) -> None:
    run("ask", flag, picture, "what?")

    assert asked(fake_engine) == [("user", [str(picture), "what?"])]


def test_with_p_every_argument_is_a_picture(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    run("ask", picture, picture, "-p", "same?")

    assert asked(fake_engine) == [("user", [str(picture), str(picture), "same?"])]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no question was asked"),
        (["{photo}"], "the question comes last"),
        (["{photo}", "nofile.jpg"], "the question comes last, and nofile.jpg is none"),
        (["{photo}", "https://127.0.0.1:1/b"], "the question comes last"),
        (["{photo}", "-"], "the question comes last, and stdin is none"),
        (["{photo}", "clip:"], "the question comes last, and the clipboard is none"),
        (["{photo}", "doc.pdf#page=2"], "the question comes last"),
        (["*.png"], "the question comes last"),
        (["{photo}", "/"], "the question comes last"),
        (["what is it?"], "no picture was given"),
        (["what is it?", "{photo}"], "the question comes last"),
        (["{photo}", "  "], "the question is empty"),
        (["-p", "what?"], "no picture was given"),
        (["{photo}", "what?", "--messages", "x.json"], "--messages is the whole conversation"),
        (["-r", "--messages", "x.json"], "--messages is the whole conversation"),
    ],
)
def test_a_question_or_a_picture_that_is_missing_exits_2(
    run: Run, picture: Path, fake_engine: FakeEngine, arguments: list[str], says: str
) -> None:
    code, out, err = run("ask", *(argument.format(photo=picture) for argument in arguments))

    assert (code, out) == (2, "")
    assert says in err and err.count("\n") == 1
    assert fake_engine.loads == []


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("missing.png", None, "no such file"),
        ("empty.png", b"", "empty"),
        ("text.png", b"just words", "not a picture"),
        ("cut.png", "cut", "cut short"),
        ("ftp://host/x.png", None, "ftp"),
    ],
)
def test_a_picture_that_cannot_be_read_exits_3_and_loads_no_model(
    run: Run,
    picture: Path,
    tmp_path: Path,
    fake_engine: FakeEngine,
    name: str,
    content: bytes | str | None,
    says: str,
) -> None:
    bad = name if "://" in name else str(tmp_path / name)
    if content == "cut":
        content = picture.read_bytes()[:-60]
    if isinstance(content, bytes):
        Path(bad).write_bytes(content)

    code, out, err = run("ask", picture, bad, "what?")

    assert (code, out) == (3, "")
    assert says in err and err.count("\n") == 1
    assert fake_engine.loads == []


def test_a_data_uri_is_a_picture(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"

    assert run("ask", uri, "what?")[0] == 0
    assert fake_engine.calls[-1][0][0].images[0].width == 64


def test_a_limit_is_an_error_that_names_the_setting(
    run: Run, picture: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, err = run("ask", picture, "what?", "--max-pixels", "1000")
    assert code == 3
    assert "64" in err and "48" in err and "--max-pixels" in err

    monkeypatch.setenv("VLM_MAX_DOWNLOAD_BYTES", "10")
    code, _, err = run("ask", "-", "what?", stdin=picture.read_bytes())
    assert code == 3
    assert "--max-download-bytes" in err


# ---- whole conversations


def conversation(picture: object) -> list[dict[str, object]]:
    image = {"type": "image", "image": str(picture)}
    return [
        {"role": "system", "content": [{"type": "text", "text": SYSTEM}]},
        {"role": "user", "content": [image, {"type": "text", "text": QUESTION}]},
        {"role": "assistant", "content": [{"type": "text", "text": "42"}]},
        {"role": "user", "content": [{"type": "text", "text": "本当に？"}]},
    ]


@pytest.mark.parametrize("stdin", [False, True])
def test_a_conversation_comes_from_a_file_or_stdin(
    run: Run, picture: Path, tmp_path: Path, fake_engine: FakeEngine, stdin: bool
) -> None:
    text = json.dumps(conversation(picture))
    file = tmp_path / "talk.json"
    file.write_text(text)

    code, out, _ = run("ask", "--messages", "-" if stdin else file, stdin=text.encode())

    assert (code, out) == (0, "A red square.\n")
    assert asked(fake_engine) == [
        ("system", [SYSTEM]),
        ("user", [str(picture), QUESTION]),
        ("assistant", ["42"]),
        ("user", ["本当に？"]),
    ]


def test_a_broken_conversation_names_the_message_and_the_part(
    run: Run, picture: Path, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    talk = conversation(picture)
    talk[1]["content"] = [{"type": "text", "text": "a"}, {"type": "imag", "image": "x"}]
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(talk))

    code, out, err = run("ask", "--messages", file)

    assert (code, out) == (3, "")
    assert "message 2, part 2" in err and "'imag'" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not JSON"), ("[" * 100_000, "not JSON"), ("[]", "not a list of messages")],
)
def test_a_file_that_is_no_conversation_exits_3(
    run: Run, tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "talk.json"
    file.write_text(text)
    code, out, err = run("ask", "--messages", file)

    assert (code, out) == (3, "")
    assert says in err and err.count("\n") == 1


def test_a_missing_conversation_or_a_missing_picture_in_it_exits_3(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    code, _, err = run("ask", "--messages", tmp_path / "none.json")
    assert code == 3 and "none.json: no such file" in err

    file = tmp_path / "talk.json"
    file.write_text(json.dumps(conversation("gone.png")))
    code, _, err = run("ask", "--messages", file)
    assert code == 3 and "message 2, part 1: gone.png: no such file" in err
    assert fake_engine.loads == []


def test_a_system_prompt_is_added_but_never_twice(
    run: Run, picture: Path, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(conversation(picture)[1:]))
    run("ask", "--messages", file, "-s", "Be brief.")
    assert asked(fake_engine)[0] == ("system", ["Be brief."])

    file.write_text(json.dumps(conversation(picture)))
    code, _, err = run("ask", "--messages", file, "-s", "Be brief.")
    assert code == 2 and "has one already" in err


def test_what_a_dry_run_shows_can_be_asked_again(
    run: Run, picture: Path, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    model = tiny("smolvlm")
    first = run("ask", picture, QUESTION, "-s", SYSTEM, "-m", model, "--dry-run")
    assert first[0] == 0
    assert SYSTEM in first[1] and QUESTION in first[1], "Japanese is not escaped"

    file = tmp_path / "shown.json"
    file.write_text(first[1])
    again = run("ask", "--messages", file, "-m", model, "--dry-run")
    assert again == first


def test_a_dry_run_shows_sizes_tokens_and_the_exact_prompt(
    run: Run, picture: Path, tiny: Callable[[str], Path]
) -> None:
    _, out, err = run("ask", picture, "hm?", "-m", tiny("smolvlm"), "--dry-run")
    shown = json.loads(out)

    assert err == ""
    assert shown["prompt"] == ("<|im_start|>User:<image>hm?<end_of_utterance>\nAssistant:")
    assert shown["images"] == [
        {
            "image": str(picture),
            "size": [64, 48],
            "resized": [56, 56],
            "tiles": 1,
            "image_tokens": 4,
        }
    ]
    assert shown["messages"] == [
        {
            "role": "user",
            "content": [{"type": "image", "image": str(picture)}, {"type": "text", "text": "hm?"}],
        }
    ]


def test_japanese_goes_through_json_unescaped(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    fake_engine.answers = ("最高値は42です。",)
    _, out, _ = run("ask", picture, QUESTION, "--json")

    assert "最高値は42です。" in out and QUESTION in out
    assert json.loads(out)["prompt"] == QUESTION


def test_several_pictures_are_lists_in_the_record(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png", (30, 20))
    _, out, _ = run("ask", a, b, "same?", "--json")
    answer = json.loads(out)

    assert answer["file"] == [str(a), str(b)]
    assert (answer["width"], answer["height"]) == ([64, 30], [48, 20])
    assert len(answer["sha256"]) == 2


def test_a_question_that_is_not_utf8_is_the_command_lines_fault(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    code, out, err = run("ask", picture, "what \udcff is")

    assert (code, out) == (2, "")
    assert "not valid UTF-8" in err and err.count("\n") == 1
    assert fake_engine.loads == []


def test_a_system_prompt_that_is_a_habit_gives_way_to_the_conversations(
    run: Run,
    picture: Path,
    tmp_path: Path,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLM_SYSTEM", "Be brief.")
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(conversation(picture)))

    assert run("ask", "--messages", file)[0] == 0
    assert asked(fake_engine)[0] == ("system", [SYSTEM])


@pytest.mark.parametrize("where", ["data", "stdin"])
def test_a_picture_without_a_name_comes_back_from_a_dry_run(
    run: Run, picture: Path, tmp_path: Path, tiny: Callable[[str], Path], where: str
) -> None:
    data = picture.read_bytes()
    name = f"data:image/png;base64,{base64.b64encode(data).decode()}" if where == "data" else "-"
    model = tiny("smolvlm")
    _, first, _ = run("ask", name, "hm?", "-m", model, "--dry-run", stdin=data)
    file = tmp_path / "shown.json"
    file.write_text(first)

    code, again, err = run("ask", "--messages", file, "-m", model, "--dry-run")

    assert (code, err) == (0, "")
    for key in ("prompt", "prompt_tokens"):
        assert json.loads(again)[key] == json.loads(first)[key]
    assert json.loads(again)["images"][0]["size"] == [64, 48]


@pytest.mark.parametrize("half", ["\\ud800", "a\\udfffb"])
@pytest.mark.parametrize("kind", ["text", "image"])
def test_half_a_character_in_a_conversation_is_named(
    run: Run, tmp_path: Path, kind: str, half: str
) -> None:
    file = tmp_path / "talk.json"
    part = f'{{"type": "{kind}", "{kind}": "{half}"}}'
    file.write_text(f'[{{"role": "user", "content": [{part}]}}]')

    code, out, err = run("ask", "--messages", file)

    assert (code, out) == (3, "")
    assert "message 1, part 1" in err and "half a character" in err
