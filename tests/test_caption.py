"""`vlm caption`: one picture, many pictures, bad pictures."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeEngine, Run, draw
from PIL import Image

from vlmcli.wording import CAPTION_STYLES


def test_one_picture_gives_its_caption_alone(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    assert run("caption", picture) == (0, "A red square.\n", "")


def test_several_pictures_give_a_line_each_in_order(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    fake_engine.answers = ("One\nline.", "Two.")
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")

    code, out, err = run("caption", b, a)

    assert (code, err) == (0, "")
    assert out == f"{b}\tOne line.\n{a}\tTwo.\n"
    assert len(fake_engine.loads) == 1


def test_a_folder_is_captioned_sorted_and_only_deeper_with_r(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    (tmp_path / "deep").mkdir()
    files = [draw(tmp_path / name) for name in ("b.png", "a.png", "deep/c.png")]
    (tmp_path / "notes.txt").write_text("not a picture")

    _, flat, _ = run("caption", tmp_path)
    assert [line.split("\t")[0] for line in flat.splitlines()] == [str(files[1]), str(files[0])]

    _, deep, _ = run("caption", "-r", tmp_path)
    assert {line.split("\t")[0] for line in deep.splitlines()} == {str(file) for file in files}


def test_a_file_name_can_be_asked_for_or_left_out(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    assert run("caption", "-H", picture)[1] == f"{picture}\tA red square.\n"
    assert run("caption", "--no-filename", picture, picture)[1] == "A red square.\n" * 2


def test_a_bad_file_among_good_ones_is_passed_over_and_exits_3(
    run: Run, picture: Path, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
    missing, bad = tmp_path / "missing.png", tmp_path / "bad.png"

    code, out, err = run("caption", missing, picture, bad, picture)

    assert code == 3
    assert out == f"{picture}\tA red square.\n" * 2
    lines = err.splitlines()
    assert "missing.png: no such file" in lines[0] and "bad.png" in lines[1]
    assert lines[2] == "vlm: warning: 2 of 4 failed"


def test_one_bad_file_is_one_line_and_no_model_is_loaded(run: Run, fake_engine: FakeEngine) -> None:
    code, out, err = run("caption", "nowhere.jpg")

    assert (code, out) == (3, "")
    assert err.startswith("vlm: nowhere.jpg: no such file") and err.count("\n") == 1
    assert fake_engine.loads == []


def test_all_bad_files_load_no_model(run: Run, fake_engine: FakeEngine) -> None:
    assert run("caption", "nowhere.jpg", "nor-here.jpg")[0] == 3
    assert fake_engine.loads == []


def test_json_is_one_object_a_line_with_an_error_field_for_a_bad_file(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    code, out, _ = run("caption", "--json", picture, "nowhere.png", picture)
    good, bad, again = (json.loads(line) for line in out.splitlines())

    assert code == 3
    assert good == again
    assert set(bad) == {"file", "error"} and "no such file" in bad["error"]
    assert good["text"] == "A red square."
    assert (good["file"], good["width"], good["height"]) == (str(picture), 64, 48)
    assert (good["model"], good["device"], good["dtype"]) == ("fake", "cpu", "float32")
    assert (good["prompt_tokens"], good["image_tokens"], good["new_tokens"]) == (76, 64, 1)
    assert good["finish_reason"] == "stop" and good["revision"] is None
    assert len(good["sha256"]) == 64 and good["version"]


@pytest.mark.parametrize("style", CAPTION_STYLES)
def test_each_style_asks_in_its_own_words(
    run: Run, picture: Path, fake_engine: FakeEngine, style: str
) -> None:
    run("caption", "--style", style, picture)

    (conversation, _) = fake_engine.calls[-1]
    assert conversation[-1].texts == (CAPTION_STYLES[style],)


def test_ones_own_prompt_replaces_the_style(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    run("caption", "-p", "Name the colours.", picture, "-s", "Be brief.", "--lang", "ja")

    (conversation, _) = fake_engine.calls[-1]
    assert [message.role for message in conversation] == ["system", "user"]
    assert conversation[0].texts == ("Be brief.",)
    assert conversation[1].texts == ("Name the colours.\nAnswer in Japanese (日本語).",)


def test_the_picture_is_seen_upright(run: Run, tmp_path: Path, fake_engine: FakeEngine) -> None:
    sideways = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways.save(tmp_path / "phone.jpg", exif=exif)

    _, out, _ = run("caption", tmp_path / "phone.jpg", "--json")

    assert (json.loads(out)["width"], json.loads(out)["height"]) == (20, 40)


def test_a_pdf_gives_a_line_a_page(run: Run, tmp_path: Path, fake_engine: FakeEngine) -> None:
    pages = [Image.new("RGB", (60, 80), colour) for colour in ("red", "green", "blue")]
    file = tmp_path / "doc.pdf"
    pages[0].save(file, save_all=True, append_images=pages[1:])

    _, out, _ = run("caption", file)
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        f"{file}#page={n}" for n in (1, 2, 3)
    ]
    assert run("caption", f"{file}#page=2") == (0, "A red square.\n", "")


def test_stdin_is_a_picture(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    assert run("caption", "-", stdin=picture.read_bytes()) == (0, "A red square.\n", "")


def test_a_loop_is_reported(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    fake_engine.reason = "loop"
    code, out, err = run("caption", picture)

    assert (code, out) == (0, "A red square.\n")
    assert err == "vlm: warning: the model repeated itself without end, and was stopped\n"


def test_what_auto_fell_back_to_is_said(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    fake_engine.note = "the small built-in model answers"
    _, out, err = run("caption", picture, "--json")

    assert err == "vlm: the small built-in model answers\n"
    assert json.loads(out)["note"] == "the small built-in model answers"


def test_stats_and_verbose_go_to_stderr(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    fake_engine.reason = "length"
    code, out, err = run("caption", picture, "--stats", "-v", "-m", "x/y")

    assert (code, out) == (0, "A red square.\n")
    assert "76 prompt tokens (64 image)" in err and "fake on cpu, float32" in err
    assert "(--model)" in err and "as the test says" in err
    assert "cut at 1 tokens; -n allows more" in err


def test_a_dry_run_of_each_picture_loads_no_model(
    run: Run, tmp_path: Path, fake_engine: FakeEngine, tiny: object
) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    code, out, _ = run("caption", a, b, "--dry-run", "--json", "-m", tiny("smolvlm"))  # type: ignore[operator]

    assert code == 0
    assert [json.loads(line)["images"][0]["image"] for line in out.splitlines()] == [str(a), str(b)]
    assert fake_engine.loads == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-p", " "], "the prompt is empty"),
        (["-p", "Colours?", "--style", "tags"], "-p replaces --style"),
    ],
)
def test_a_prompt_is_words_and_no_style(
    run: Run, picture: Path, fake_engine: FakeEngine, arguments: list[str], says: str
) -> None:
    code, out, err = run("caption", picture, *arguments)

    assert (code, out) == (2, "")
    assert says in err


def test_a_picture_that_the_processor_refuses_stops_no_other(
    run: Run, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    """Qwen's takes nothing 200 times as long as it is wide."""
    a, thin, b = (
        draw(tmp_path / "a.png"),
        draw(tmp_path / "thin.png", (1, 3000)),
        draw(tmp_path / "b.png"),
    )
    code, out, err = run("caption", a, thin, b, "-m", tiny("qwen3_vl"), "-n", 2, "--json")

    assert code == 3
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(a), str(thin), str(b)]
    assert "aspect ratio" in json.loads(out.splitlines()[1])["error"]
    assert "thin.png" in err


def test_a_folder_that_cannot_be_looked_into_hides_no_other(
    run: Run, tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
        draw(tmp_path / name / "x.png")
    scandir = os.scandir

    def locked(path: str) -> object:  # permissions do not stop a test that runs as root
        if str(path) == str(tmp_path / "b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    code, out, err = run("caption", "-r", tmp_path)

    assert code == 3
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        str(tmp_path / "a/x.png"),
        str(tmp_path / "c/x.png"),
    ]
    assert f"{tmp_path / 'b'}: permission denied" in err


def test_a_flag_without_effect_is_said(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    _, _, err = run("caption", picture, "--top-p", "0.5")
    assert err == "vlm: warning: --top-p does nothing at temperature 0; see -t\n"
    assert run("caption", picture, "--top-p", "0.5", "-t", "1")[2] == ""
