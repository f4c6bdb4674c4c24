"""What a record says of how its answer came about."""

import hashlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from clips_here import make
from conftest import FakeEngine, Run, Say, draw, model

from vlmcli import records
from vlmcli.errors import InputError
from vlmcli.models import files


def record_of(run: Run, *arguments: object, stdin: bytes = b"") -> Any:
    code, out, err = run(*arguments, "--json", stdin=stdin)
    assert code == 0, err
    return json.loads(out)


def test_one_question_needs_no_messages_and_the_system_prompt_is_a_setting(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    record = record_of(run, "ask", picture, "why?", "-s", "Be brief.", "--lang", "de")

    assert record["prompt"] == "why?\nAnswer in German (Deutsch)."
    assert record["settings"] == {"system": "Be brief.", "lang": "de"}
    assert "messages" not in record and "style" not in record


def test_the_style_of_a_caption_is_told(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    assert record_of(run, "caption", picture)["style"] == "short"
    assert "style" not in record_of(run, "caption", picture, "-p", "Name the plants.")


def test_a_conversation_is_told_whole_and_its_pictures_by_name(
    run: Run, picture: Path, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    said = [
        {"role": "user", "content": [{"type": "text", "text": "See:"}, image(picture)]},
        {"role": "assistant", "content": [{"type": "text", "text": "A red one."}]},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
    ]
    (tmp_path / "talk.json").write_text(json.dumps(said))
    record = record_of(run, "ask", "--messages", tmp_path / "talk.json")

    assert record["messages"] == said
    digest = hashlib.sha256(picture.read_bytes()).hexdigest()
    assert (record["file"], record["sha256"], record["prompt"]) == (str(picture), digest, "Where?")


def image(path: Path) -> dict[str, str]:
    return {"type": "image", "image": str(path)}


def test_the_second_turn_of_a_chat_tells_the_first(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "photo.png")
    code, out, _ = say("photo.png what is it?", "and now?", arguments=("--json",))
    first, second = map(json.loads, out)

    assert code == 0
    assert "messages" not in first
    roles = [message["role"] for message in second["messages"]]
    assert roles == ["user", "assistant", "user"]
    assert second["messages"][1]["content"] == [{"type": "text", "text": first["text"]}]
    assert second["sha256"] == first["sha256"]


def test_a_picture_from_stdin_is_told_by_its_hash_and_not_inlined(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    record = record_of(run, "ask", "-", "why?", stdin=picture.read_bytes())

    assert record["file"] == "-"
    assert record["sha256"] == hashlib.sha256(picture.read_bytes()).hexdigest()
    assert "base64" not in json.dumps(record)


@pytest.mark.parametrize("piped", [False, True])
def test_a_clip_is_told_by_its_hash_and_the_exact_times_of_its_frames(
    run: Run, fake_engine: FakeEngine, tmp_path: Path, piped: bool
) -> None:
    clip = make(tmp_path / "clip.mkv", 250)
    data = clip.read_bytes()
    arguments = ("video", "-" if piped else clip, "--max-frames", 3, "--end", 7)
    record = record_of(run, *arguments, stdin=data if piped else b"")

    assert record["sha256"] == hashlib.sha256(data).hexdigest()
    assert record["clips"][0]["frames"] == [7 / 6, 7 / 6 * 3, 7 / 6 * 5]
    assert set(record["versions"]) == {"pillow", "av"}


def test_pictures_and_clips_seen_together_are_told_in_one_order(
    run: Run, picture: Path, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    clip = make(tmp_path / "clip.mp4")
    record = record_of(run, "video", clip, picture, "what?")

    assert record["file"] == [str(clip), str(picture)]
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (clip, picture)]
    assert record["sha256"] == digests


def test_the_versions_and_the_model_are_told(run: Run, picture: Path) -> None:
    record = record_of(run, "ask", picture, "why?", "-m", "builtin", "-n", 1)

    versions = record["versions"]
    assert versions["torch"] == metadata.version("torch")
    assert versions["transformers"] == metadata.version("transformers")
    assert versions["pillow"] == metadata.version("pillow") and "av" not in versions
    assert record["revision"] is None and len(record["fingerprint"]) == 64


def test_a_sampled_answer_tells_the_seed_that_repeats_it(run: Run, picture: Path) -> None:
    arguments = ("ask", picture, "what is it?", "-m", "builtin", "-n", 12, "-t", 5)
    first, second = record_of(run, *arguments), record_of(run, *arguments)

    assert first["seed"] != second["seed"]
    assert first["text"] != second["text"]
    again = record_of(run, *arguments, "--seed", first["seed"])
    assert again["text"] == first["text"]
    assert again["settings"] == {**first["settings"], "seed": first["seed"]} and "seed" not in again


def test_a_greedy_answer_has_no_seed(run: Run, picture: Path) -> None:
    record = record_of(run, "ask", picture, "what is it?", "-m", "builtin", "-n", 1)
    assert record["settings"] == {"max_tokens": 1} and "seed" not in record


# --- the fingerprint ---


def test_a_fingerprint_is_of_what_inference_needs(tmp_path: Path) -> None:
    one, same = model(tmp_path / "one"), model(tmp_path / "same", README__md="notes")
    weights = model(tmp_path / "weights", model__safetensors="heights")
    texts = model(tmp_path / "texts", chat_template__jinja="{{ messages }}")

    assert files.fingerprint(one) == files.fingerprint(same)
    different = {files.fingerprint(folder) for folder in (one, weights, texts)}
    assert len(different) == 3


def test_a_fingerprint_of_large_weights_sees_a_change_in_any_part_of_them(tmp_path: Path) -> None:
    folder = model(tmp_path / "large")
    weights = folder / "model.safetensors"
    os.truncate(weights, 100 << 20)  # sparse: no 100 MB are on the disk
    before = files.fingerprint(folder)

    with weights.open("r+b") as file:
        file.seek(77 << 20)
        file.write(os.urandom(200_000))  # a tensor of 100 thousand numbers
    changed = files.fingerprint(folder)
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")

    assert len({before, changed, files.fingerprint(folder)}) == 3


# --- read again ---


def test_records_are_read_from_lines_from_lists_and_indented() -> None:
    text = '{"a": 1}\n{\n  "b": 2\n}\n\n[{"c": 3}, {"d": 4}]{"e": 5}'
    assert list(records.documents(text)) == [{"a": 1}, {"b": 2}, {"c": 3}, {"d": 4}, {"e": 5}]


def test_a_line_that_is_cut_short_is_told_once_and_hides_no_other() -> None:
    first, broken, last = records.documents('{"a": 1}\n{"b": 2, "c\nxx\n{"d": 4}\n')
    assert (first, last) == ({"a": 1}, {"d": 4})
    assert isinstance(broken, InputError) and "line 2: not JSON" in str(broken)


RECORD = {
    "file": "a.png",
    "text": "A.",
    "model": "m",
    "revision": None,
    "prompt": "why?",
    "width": 4,
    "height": 3,
    "sha256": "0" * 64,
    "device": "cpu",
    "dtype": "float32",
}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"text": None}, 'no "text"'),
        ({"model": 3}, 'no "model"'),
        ({"file": ["a.png", "b.png"]}, "do not match"),
        ({"width": "wide"}, "do not match"),
        ({"clips": [{"file": "a.png"}]}, "do not match"),
        ({"settings": [1]}, '"settings" and "versions" are objects'),
        ({"messages": [{"role": "user", "content": [{}]}]}, "are no conversation"),
        ({"messages": "hello"}, "are no conversation"),
        ({"messages": [{"role": "user", "content": []}]}, '"messages" and "file" do not match'),
    ],
)
def test_what_is_no_record_is_told(change: dict[str, object], says: str) -> None:
    assert records.read(RECORD).seen[0].size == (4, 3)
    with pytest.raises(InputError, match=says):
        records.read(RECORD | change)
