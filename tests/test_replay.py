"""`vlm replay`: the same again, or what is in the way of it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clips_here import make
from conftest import DATA, FakeEngine, Run, draw
from PIL import Image
from terminal import spawn

CHART = DATA / "chart.png"


@pytest.fixture
def record(run: Run, tmp_path: Path) -> Callable[..., Path]:
    """Run a command with --json; the file of what it printed."""

    def recorded(*arguments: object, stdin: bytes = b"", code: int = 0) -> Path:
        found, out, err = run(*arguments, "--json", stdin=stdin)
        assert found == code, err
        file = tmp_path / "answer.json"
        file.write_text(out)
        return file

    return recorded


def changed(file: Path, **fields: object) -> Path:
    """The first record of a file, with other fields."""
    record = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps(record | fields))
    return file


# --- the same ---


def test_an_answer_of_a_real_model_is_the_same_again(run: Run, record: Callable[..., Path]) -> None:
    file = record("ask", CHART, "highest bar?", "-m", "builtin")
    assert run("replay", file) == (0, f"{CHART}\tsame\n", "")


def test_an_answer_drawn_at_random_is_the_same_again(run: Run, record: Callable[..., Path]) -> None:
    sampled = ("-t", 5, "-n", 12, "--top-k", 40, "-s", "Be odd.", "--lang", "fr", "--stop", "7")
    file = record("ask", CHART, CHART, "what?", "-m", "builtin", *sampled)
    assert run("replay", file) == (0, f"{CHART}, {CHART}\tsame\n", "")


def test_a_captioner_is_asked_in_its_own_way_again(
    run: Run, record: Callable[..., Path], tiny: Callable[[str], Path]
) -> None:
    file = record("caption", CHART, "-m", tiny("blip"), "-n", 6)
    assert run("replay", file) == (0, f"{CHART}\tsame\n", "")


def test_turns_of_a_chat_are_the_same_again(run: Run, record: Callable[..., Path]) -> None:
    lines = b"highest bar?\nlowest bar?\n/system You are brief.\nhow many bars are there?\n"
    file = record("chat", CHART, "-m", "builtin", stdin=lines)

    assert run("replay", file)[:2] == (0, f"{CHART}\tsame\n" * 3)


def test_a_clip_and_its_windows_are_the_same_again(
    run: Run, record: Callable[..., Path], tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    """Random weights say something else about other frames."""
    clip = make(tmp_path / "clip.mkv", 125, fps=30)
    asked = ("-m", tiny("qwen3_vl"), "-n", 6, "--max-frames", 3)

    file = record("video", clip, "what?", "--scenes", *asked)
    assert run("replay", file) == (0, f"{clip}\tsame\n", "")

    file = record("video", clip, "--every", "2s", *asked)
    spans = ("0:00-0:02", "0:02-0:04", "0:04-0:04.2")
    code, out, _ = run("replay", file)
    assert (code, out) == (0, "".join(f"{clip} {span}\tsame\n" for span in spans))

    frames = json.loads(file.read_text().splitlines()[0])["clips"][0]["frames"]
    moved = [{"file": str(clip), "frames": [time_s + 2.1 for time_s in frames]}]
    assert run("replay", changed(file, clips=moved))[:2] == (1, f"{clip} 0:00-0:02\tdifferent\n")


def test_words_between_pictures_stay_between_them(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    shown = {"type": "image", "image": str(picture)}
    texts = [{"type": "text", "text": text} for text in ("Before:", "After:", "What changed?")]
    content = [texts[0], shown, texts[1], shown, texts[2]]
    (tmp_path / "talk.json").write_text(json.dumps([{"role": "user", "content": content}]))
    file = record("ask", "--messages", tmp_path / "talk.json")
    (asked,) = fake_engine.calls[-1][0]

    assert json.loads(file.read_text())["messages"] == [{"role": "user", "content": content}]
    assert run("replay", file)[0] == 0
    (again,) = fake_engine.calls[-1][0]
    assert [type(part) for part in again.content] == [type(part) for part in asked.content]
    assert again.texts == asked.texts


def test_what_the_user_is_used_to_changes_no_replay(
    run: Run,
    record: Callable[..., Path],
    picture: Path,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = record("caption", picture, "-n", 9, "--stop", "x", "--seed", 3)
    told = fake_engine.calls[-1]
    for name, value in {
        "TEMPERATURE": "1",
        "SYSTEM": "Rhyme.",
        "LANG": "de",
        "MODEL": "x/y",
    }.items():
        monkeypatch.setenv(f"VLM_{name}", value)

    assert run("replay", file) == (0, f"{picture}\tsame\n", "")
    (conversation, sampling) = fake_engine.calls[-1]
    assert sampling == told[1]
    assert [m.role for m in conversation] == ["user"] and conversation[0].texts == told[0][0].texts
    assert conversation[0].content[-1] == told[0][0].content[-1]  # its style too
    loaded = fake_engine.loads[-1]
    assert (loaded.model, loaded.dtype, loaded.device) == ("fake", "float32", "cpu")


# --- different ---


def test_another_text_is_told_with_code_1_and_shown_if_asked_for(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    fake_engine.answers = ("One.\nTwo.\nThree.",)
    file = record("ask", picture, "what?")
    fake_engine.answers = ("One.\n2 [bold].\nThree.",)

    assert run("replay", file)[:2] == (1, f"{picture}\tdifferent\n")
    code, out, _ = run("replay", file, "--diff")
    assert (code, out) == (1, f"{picture}\tdifferent\n One.\n-Two.\n+2 [bold].\n Three.\n")

    code, out, _ = run("replay", file, "--json")
    again = json.loads(out)
    assert (code, again["same"]) == (1, False)
    assert (again["was"], again["text"]) == ("One.\nTwo.\nThree.", "One.\n2 [bold].\nThree.")


def test_a_replay_in_json_is_a_record_that_can_be_replayed(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    file = record("ask", picture, "what?", "-n", 7)
    _, out, _ = run("replay", file, "--json")
    again, before = json.loads(out), json.loads(file.read_text())

    assert again == before | {"same": True, "was": before["text"]}


def test_what_may_be_why_is_said_once(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    file = record("ask", picture, "what?")
    old = changed(file, text="Else.", version="0.0.1", versions={"pillow": "1.0"}).read_text()
    file.write_text(f"{old}\n{old}\n")
    code, out, err = run("replay", file)

    assert (code, out.count("different")) == (1, 2)
    assert err.count("vlm was 0.0.1 and is ") == err.count("pillow was 1.0 and is ") == 1
    assert err.endswith("of 2, 2 differ and 0 failed\n")


@pytest.mark.slow
def test_a_terminal_shows_how_texts_differ(record: Callable[..., Path]) -> None:
    file = record("ask", CHART, "highest bar?", "-m", "builtin")
    changed(file, text="B and \x1b[31mno more\n")
    terminal = spawn([sys.executable, "-m", "vlmcli", "replay", str(file)], columns=200)

    assert terminal.wait(60) == 1
    assert terminal.screen()[-3:] == [
        f"{CHART}   different".replace("   ", "\t").expandtabs(8),
        "-B and [31mno more",
        "+C",
    ]


# --- pictures ---


def test_a_picture_that_has_changed_or_is_gone_is_told(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    file = record("ask", picture, "what?")
    fake_engine.loads.clear()
    draw(picture, colour="green")

    code, out, err = run("replay", file)
    assert (code, out) == (3, "") and f"{picture}: it has changed since" in err
    picture.unlink()
    code, out, err = run("replay", file)
    assert (code, out) == (3, "") and f"{picture}: no such file" in err
    assert fake_engine.loads == []


def test_a_picture_is_found_by_its_content_among_the_files_that_are_named(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    moved = tmp_path / "deep" / "er"
    moved.mkdir(parents=True)
    file = record("ask", "-", "what?", stdin=picture.read_bytes())
    draw(moved / "other.png", colour="green")
    picture.rename(moved / "moved.png")

    code, _, err = run("replay", file)
    assert code == 3 and "stdin: what came from there is not in the record" in err
    assert run("replay", file, moved / "other.png", tmp_path / "deep") == (0, "-\tsame\n", "")
    code, _, err = run("replay", file, tmp_path / "nowhere")
    assert code == 3 and "nowhere: no such file" in err


def test_a_clip_from_stdin_is_found_by_its_content(
    run: Run, record: Callable[..., Path], fake_engine: FakeEngine, tmp_path: Path
) -> None:
    clip = make(tmp_path / "clip.mkv")
    file = record("video", "-", "what?", stdin=clip.read_bytes())

    assert run("replay", file)[0] == 3
    assert run("replay", file, clip) == (0, "-\tsame\n", "")
    (video,) = fake_engine.calls[-1][0][-1].videos
    assert list(video.times_s) == json.loads(file.read_text())["clips"][0]["frames"]


def test_a_page_of_a_pdf_is_found_too(
    run: Run, record: Callable[..., Path], fake_engine: FakeEngine, tmp_path: Path
) -> None:
    pages = [Image.new("RGB", (60 + n, 80), colour) for n, colour in enumerate(("red", "blue"))]
    document = tmp_path / "doc.pdf"
    pages[0].save(document, save_all=True, append_images=pages[1:])
    file = record("ask", f"{document}#page=2", "what?")

    assert run("replay", file) == (0, f"{document}#page=2\tsame\n", "")
    document.rename(tmp_path / "moved.pdf")
    assert run("replay", file, tmp_path / "moved.pdf")[0] == 0
    assert fake_engine.calls[-1][0][-1].images[0].pixels.getpixel((9, 9))[2] > 250


def test_a_picture_of_another_size_than_then_is_not_asked_about(
    run: Run, record: Callable[..., Path], fake_engine: FakeEngine, tmp_path: Path
) -> None:
    document = tmp_path / "doc.pdf"
    Image.new("RGB", (600, 800), "red").save(document)
    file = record("caption", document, "--max-pixels", 10_000)

    code, _, err = run("replay", file)
    assert code == 3 and "was --max-pixels another?" in err
    assert run("replay", file, "--max-pixels", 10_000)[0] == 0


def test_relative_names_start_where_one_says(
    run: Run,
    record: Callable[..., Path],
    fake_engine: FakeEngine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "elsewhere").mkdir()
    draw(tmp_path / "photos" / "a.png")
    monkeypatch.chdir(tmp_path / "photos")
    file = record("ask", "a.png", "what?")
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert run("replay", file)[0] == 3
    assert run("replay", file, "--root", "../photos") == (0, "a.png\tsame\n", "")


@pytest.mark.parametrize("name", ["with space\nand\ttab.png", "caf\udce9 🐈.png", "[x]*?.png"])
def test_any_file_name_comes_back(
    run: Run, fake_engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "plain.png")
    Path("plain.png").rename(name)
    code, out, _ = run("ask", name, "what?", "--json")
    (tmp_path / "answer.json").write_text(out)

    assert code == 0
    code, out, err = run("replay", "answer.json", "--json")
    assert (code, err, json.loads(out)["file"]) == (0, "", name)


# --- the model ---


def test_a_model_whose_files_have_changed_is_not_taken_for_it(
    run: Run, record: Callable[..., Path]
) -> None:
    file = changed(record("ask", CHART, "highest bar?", "-m", "builtin"), fingerprint="0" * 64)

    code, out, err = run("replay", file)
    assert (code, out) == (4, "") and "its files are not those" in err and "-m builtin" in err
    assert run("replay", file, "-m", "builtin") == (0, f"{CHART}\tsame\n", "")


def test_another_commit_is_not_taken_for_it(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    file = changed(record("ask", picture, "what?"), revision="0" * 40)

    code, out, err = run("replay", file)
    assert (code, out) == (4, "") and "the record has 0000" in err
    assert fake_engine.loads[-1].revision == "0" * 40


def test_another_model_can_be_asked_the_same(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    file = changed(
        record("ask", picture, "what?"), model="old/one", revision="0" * 40, text="Else."
    )
    code, out, err = run("replay", file, "-m", "new/one")

    assert (code, out) == (1, f"{picture}\tdifferent\n")
    assert "the model was old/one and is fake" in err
    assert (fake_engine.loads[-1].model, fake_engine.loads[-1].revision) == ("new/one", None)


def test_each_model_is_loaded_once_however_the_records_are_mixed(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    lines = []
    for name in ("a/a", "b/b", "a/a", "b/b"):
        lines.append(changed(record("ask", picture, "what?"), model=name).read_text())
    fake_engine.loads.clear()
    code, out, _ = run("replay", "-", stdin="\n".join(lines).encode())

    assert (code, out) == (0, f"{picture}\tsame\n" * 4)
    assert [settings.model for settings in fake_engine.loads] == ["a/a", "b/b"]


def test_a_device_that_is_not_here_is_told(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    file = changed(record("ask", picture, "what?"), device="xpu:7")
    code, _, err = run("replay", file)

    assert (code, fake_engine.loads[-1].device) == (0, "auto")
    assert err == "vlm: warning: no xpu:7 is here, where the answer was made\n"
    assert run("replay", file, "--device", "cpu") == (0, f"{picture}\tsame\n", "")


# --- many records ---


def test_what_cannot_be_replayed_stops_no_other(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    file = record("caption", picture, tmp_path / "none.png", picture, code=3)
    good, error, _ = file.read_text().splitlines()
    gone = json.dumps(json.loads(good) | {"file": "gone.png"})
    file.write_text("\n".join((good, gone, error, good[:-20], good)))
    code, out, err = run("replay", file)

    assert (code, out) == (3, f"{picture}\tsame\n" * 2)
    assert "passed over: 1 of 5 are records of errors" in err
    assert "gone.png: no such file" in err and "line 4: not JSON" in err
    assert "of 4, 0 differ and 2 failed" in err

    code, out, _ = run("replay", file, "--json")
    assert code == 3 and sum("error" in json.loads(line) for line in out.splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no record of an answer in it"),
        ('{"file": "x", "error": "none"}', "no record of an answer in it"),
        ("photo.png\tA red square.\n", "line 1: not JSON"),
        ("3", "no object"),
        ('{"text": "A."}', "not a record of vlm"),
    ],
)
def test_a_file_without_a_record_is_told(
    run: Run, fake_engine: FakeEngine, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    code, out, err = run("replay", tmp_path / "x.json")

    assert (code, out) == (3, "") and says in err


def test_a_setting_that_this_vlm_does_not_know_is_told(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    file = record("ask", picture, "what?")
    for settings, says in (
        ({"beams": 3}, "'beams'; is it of a newer vlm?"),
        ({"model": "x/y"}, "no setting is called 'model'"),
        ({"top_p": 7}, "settings: top_p: 7 is too large"),
    ):
        code, _, err = run("replay", changed(file, settings=settings))
        assert code == 3 and says in err


def test_a_picture_is_no_record_and_a_missing_file_none_either(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    assert "not JSON; a record is what --json prints" in run("replay", picture)[2]
    code, _, err = run("replay", "nowhere.json")
    assert code == 3 and "nowhere.json: no such file" in err


def test_thoughts_are_no_part_of_what_is_compared(
    run: Run, record: Callable[..., Path], picture: Path, fake_engine: FakeEngine
) -> None:
    fake_engine.thoughts = "Hm."
    file = record("ask", picture, "what?")
    fake_engine.thoughts = "Well."
    again: Any = json.loads(run("replay", file, "--json")[1])

    assert again["same"] and again["reasoning"] == "Well."


@pytest.mark.parametrize(
    "form",
    [
        ["--choices", '["A, the first", "@home", "C"]'],
        ["--schema-multi", "bar", "-n", "40"],
        ["--choices", "A,C", "-t", "2"],
    ],
    ids=" ".join,
)
def test_the_form_of_an_answer_is_what_the_record_says_and_is_not_read_as_typed(
    run: Run, tmp_path: Path, form: list[str]
) -> None:
    asks = ("ask", DATA / "chart.png", "which bar is highest?", "-m", "builtin", *form, "--json")
    code, out, err = run(*asks)
    record = json.loads(out)
    (tmp_path / "record.json").write_text(out)
    again = json.loads(run("replay", tmp_path / "record.json", "--json")[1])
    assert (code, again["same"]) == (0, True), err
    for what in ("probabilities", "data"):
        assert again.get(what) == record.get(what)


def test_what_has_no_text_to_compare_says_so(run: Run, tmp_path: Path, picture: Path) -> None:
    found = run("grep", "a circle", picture, "-M", "builtin", "--json")[1]
    (tmp_path / "grep.json").write_text(found)
    code, _, err = run("replay", tmp_path / "grep.json")
    assert code == 3 and "vlm grep" in err
    run("caption", picture, "-m", "builtin", "-o", tmp_path / "all.csv")
    code, _, err = run("replay", tmp_path / "all.csv")
    assert code == 3 and "-o FILE.jsonl" in err
