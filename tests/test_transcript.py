"""Answers with their times: what players and scripts read, and a file that is gone on with."""

import itertools
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import av
import pytest

from vlmcli import transcript
from vlmcli.errors import ExitCode, OutputError, UsageError
from vlmcli.transcript import Cue, Form, Window

FORMS: tuple[Form, ...] = get_args(Form)
SUBTITLES: tuple[Form, ...] = ("srt", "vtt")
SCRAPS = (
    *("a", "Ein Café.", "日本語", "🙂", " ", "  ", "\n", "\n\n", "\r\n", "\t", "\u2028", "\x85"),
    *("7", "\n2\n", "-->", "<b>", "&amp;", '"', "\\", "{", "}", ", ", "WEBVTT", "\n{", '{"', "1:"),
    "\n3\n00:00:20,000 --> 00:00:30,000\n",
    "\n\n00:00:20.000 --> 00:00:30.000\n",
    "\n0:20-0:30\tx\n",
    '"}\n{"start": 20, "end": 30, "text": "x"}\n',
)


def cue(start_s: float, end_s: float, text: str, **more: object) -> Cue:
    times = {"start": round(start_s, 3), "end": round(end_s, 3)}
    return Cue(start_s, end_s, text, {"model": "m", **times, "text": text, **more})


def cues_of(seed: int, count: int) -> list[Cue]:
    """Windows end to end with any text; those of one seed are the same every time."""
    chance = random.Random(seed)
    every_s = chance.choice((10, 0.5, 1 / 3, 61.0625, 3600))
    texts = ["".join(chance.choices(SCRAPS, k=chance.randint(0, 6))) for _ in range(count)]
    return [cue(i * every_s, (i + 1) * every_s, text) for i, text in enumerate(texts)]


def windows(cues: Sequence[Cue]) -> list[Window]:
    return [(one.start_s, one.end_s) for one in cues]


def rendered(form: Form, cues: Sequence[Cue], done: int = 0) -> str:
    """What a run writes that finds so many windows done."""
    before = "" if done else transcript.head(form)
    numbered = list(enumerate(cues, 1))[done:]
    return before + "".join(transcript.entry(form, number, one) for number, one in numbered)


# --- what players and scripts read ---


def read_subtitles(form: Form, text: str) -> list[tuple[str, str, str]]:
    """Start, end and text of each cue, by the letter of the format: no more than players do."""
    assert "\r" not in text and text.endswith("\n\n")
    *blocks, rest = text.split("\n\n")
    assert rest == ""
    if form == "vtt":
        assert blocks.pop(0) == "WEBVTT"
    found = []
    for number, block in enumerate(blocks, 1):
        lines = block.split("\n")
        if form == "srt":
            assert lines.pop(0) == str(number)
        mark = "," if form == "srt" else "."
        stamp = rf"(\d\d+:\d\d:\d\d\{mark}\d\d\d)"
        times = re.fullmatch(rf"{stamp} --> {stamp}", lines.pop(0))
        assert times and lines and all(line.strip() for line in lines)
        assert not any("-->" in line for line in lines)
        if form == "vtt":
            assert "<" not in block and not re.search("&(?!amp;|lt;)", block)
            lines = [line.replace("&lt;", "<").replace("&amp;", "&") for line in lines]
        found.append((times[1], times[2], "\n".join(lines)))
    return found


def expected_text(text: str) -> str:
    lines = (line.strip() for line in re.split("[\n\r\x85\u2028]", text))
    return "\n".join(line for line in lines if line).replace("-->", "→") or "-"


@pytest.mark.parametrize("form", SUBTITLES)
@pytest.mark.parametrize("seed", range(30))
def test_subtitles_hold_every_cue_whatever_the_model_says(form: Form, seed: int) -> None:
    cues = cues_of(seed, 20)
    found = read_subtitles(form, rendered(form, cues))
    assert [text for _, _, text in found] == [expected_text(one.text) for one in cues]
    starts = [start for start, _, _ in found]
    assert starts == sorted(starts) and starts[1:] == [end for _, end, _ in found][:-1]


@pytest.mark.parametrize("form", SUBTITLES)
def test_a_player_finds_the_same_cues(form: Form, tmp_path: Path) -> None:
    cues = [one for seed in range(10) for one in cues_of(seed, 5)]
    cues = [cue(i * 2, i * 2 + 1.5, one.text) for i, one in enumerate(cues)]
    file = tmp_path / f"clip.{form}"
    transcript.append(file, rendered(form, cues))
    with av.open(str(file)) as clip:
        packets = [packet for packet in clip.demux() if packet.pts is not None]
    assert [packet.pts for packet in packets] == [i * 2000 for i in range(50)]
    assert {packet.duration for packet in packets} == {1500}
    told = [bytes(packet).decode() for packet in packets]
    if form == "vtt":
        told = [text.replace("&lt;", "<").replace("&amp;", "&") for text in told]
    assert told == [expected_text(one.text) for one in cues]


def test_an_entry_in_each_form() -> None:
    one = cue(0, 10, "A <b> & a c\n\nran --> off", reason="stop")
    shown = {form: transcript.head(form) + transcript.entry(form, 3, one) for form in FORMS}
    assert shown == {
        "text": "0:00-0:10\tA <b> & a c ran --> off\n",
        "srt": "3\n00:00:00,000 --> 00:00:10,000\nA <b> & a c\nran → off\n\n",
        "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:10.000\nA &lt;b> &amp; a c\nran → off\n\n",
        "jsonl": '{"model": "m", "start": 0, "end": 10, "text": "A <b> & a c\\n\\nran --> off",'
        ' "reason": "stop"}\n',
    }


@pytest.mark.parametrize("seed", range(30))
def test_lines_and_records_are_one_line_each_to_every_reader(seed: int) -> None:
    cues = cues_of(seed, 20)
    lines = rendered("text", cues).splitlines()
    assert len(lines) == 20 and all(line.count("\t") == 1 for line in lines)
    records = [json.loads(line) for line in rendered("jsonl", cues).splitlines()]
    assert records == [one.fields for one in cues]


def test_a_record_says_everything_and_commands_no_terminal() -> None:
    text = "Café \u202e\x9b31m\x7f\ud800"
    line = transcript.entry("jsonl", 1, cue(0, 1, text))
    assert json.loads(line)["text"] == text
    assert "Café" in line and line.rstrip("\n").isprintable()


# --- going on ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(4))
def test_cut_at_any_byte_and_gone_on_with_it_is_the_file_of_one_run(
    form: Form, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # thousands of them
    cues = cues_of(seed, 4)
    whole = rendered(form, cues).encode()
    ends = [len(rendered(form, cues[:count]).encode()) for count in range(1, 5)]
    file = tmp_path / "out"
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        done = transcript.resume(file, form, windows(cues), {"model": "m"})
        assert done == sum(end <= size for end in ends)
        assert file.read_bytes() == whole[: ends[done - 1] if done else 0]
        transcript.append(file, rendered(form, cues, done))
        assert file.read_bytes() == whole


@pytest.mark.parametrize("form", FORMS)
def test_what_an_editor_does_to_the_file_does_no_harm(form: Form, tmp_path: Path) -> None:
    cues = cues_of(5, 6)
    saved = b"\xef\xbb\xbf" + rendered(form, cues[:3]).replace("\n", "\r\n").encode() + b"\r\n"
    file = tmp_path / "out"
    for torn in (b"", rendered(form, cues)[len(rendered(form, cues[:3])) :][:1].encode()):
        file.write_bytes(saved + torn)
        assert transcript.resume(file, form, windows(cues)) == 3
        kept = file.read_bytes()
        assert saved.startswith(kept) and len(saved) - len(kept) <= 2
        assert transcript.resume(file, form, windows(cues)) == 3
        assert file.read_bytes() == kept


@pytest.mark.parametrize("form", FORMS)
def test_a_final_end_mark_that_an_editor_took_costs_one_window(form: Form, tmp_path: Path) -> None:
    cues = [cue(i, i + 1, "words") for i in range(3)]
    file = tmp_path / "out"
    file.write_text(rendered(form, cues).rstrip("\n"))
    assert transcript.resume(file, form, windows(cues)) == 2
    transcript.append(file, rendered(form, cues, 2))
    assert file.read_text() == rendered(form, cues)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("held", [None, b"", b"\n", b"\xef\xbb\xbf"])
def test_a_file_that_holds_nothing_is_begun(form: Form, held: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "out"
    if held is not None:
        file.write_bytes(held)
    cues = cues_of(1, 2)
    assert transcript.resume(file, form, windows(cues)) == 0
    transcript.append(file, rendered(form, cues))
    assert file.read_bytes() == rendered(form, cues).encode()
    assert transcript.resume(file, form, windows(cues)) == 2


FOREIGN = (
    *(b"my notes", b"my notes\n", b"my notes\n\nof today\n", b"1. milk\n2. eggs\n", b"9", b"{}"),
    *(b'{"a": 1}', b'{"a": 1}\n', b'{\n  "a": 1\n}\n', b'{"a":1}{"b":2}', b"[1, 2]\n", b"null\n"),
    *(b"WEBVTT - of somebody\n\n", b"WEBVTT\n\nNOTE x\n\n", b"{\\rtf1 x}", b"\0\0\0 ftypmp42\n\n"),
    *(b'{"start": "0", "end": 10, "text": ""}\n', b'{"start": 0, "end": 10, "text": null}\n'),
    *(
        b'{"start": NaN, "end": Infinity, "text": ""}\n',
        b'{"start": 0, "text": "x"}\n',
        b"[" * 9**6,
    ),
    *(b"1\n00:00:00,000 --> 00:00:10,000 X1:40\nx\n\n", b"2\n00:00:00,000 --> 00:00:10,000\nx\n\n"),
    "WEBVTT\n\n".encode("utf-16"),
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("held", FOREIGN, ids=range(len(FOREIGN)))
def test_a_file_of_the_user_is_not_touched(form: Form, held: bytes, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_bytes(held)
    with pytest.raises(UsageError, match=r"mine\.txt: its .*; .* -o.*remove"):
        transcript.resume(file, form, [(0, 10), (10, 20)])
    assert file.read_bytes() == held


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("other", FORMS)
@pytest.mark.parametrize("share", [1, 0.4])
def test_a_file_of_another_form_is_not_touched(
    form: Form, other: Form, share: float, tmp_path: Path
) -> None:
    if form == other:
        return
    cues = [cue(i, i + 1, "words") for i in range(3)]
    file = tmp_path / "out"
    text = rendered(other, cues)
    file.write_text(text[: int(len(text) * share)])
    before = file.read_bytes()
    told = f"out: its entry 1 is not as vlm writes {transcript.NAMES[form]}"
    with pytest.raises(UsageError, match=told):
        transcript.resume(file, form, windows(cues))
    assert file.read_bytes() == before


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("torn", [False, True])
def test_windows_of_other_times_are_told(form: Form, torn: bool, tmp_path: Path) -> None:
    cues = [cue(0, 10, "a"), cue(10, 20, "b"), cue(20, 30, "c", more="x")]
    file = tmp_path / "out"
    text = rendered(form, cues)
    file.write_text(text[:-2] if torn else text)
    before = file.read_bytes()
    for planned, told in (
        ([(0, 10), (10, 15), (15, 20)], "its window 2 is .*20.*, and that of this run .*15"),
        ([(0, 10), (10, 20), (20, 30.5)], "its window 3 is .*30.*, and that of this run .*30.5"),
        ([(0, 10), (10, 20)], "it holds more windows than the 2 of this run"),
        ([], "it holds something already"),
    ):
        with pytest.raises(UsageError, match=rf"out: {told}.*-o") as refused:
            transcript.resume(file, form, planned)
        assert refused.value.exit_code == ExitCode.USAGE
        assert file.read_bytes() == before


@pytest.mark.parametrize("form", FORMS)
def test_times_are_compared_as_finely_as_the_form_has_them(form: Form, tmp_path: Path) -> None:
    chance = random.Random(2)
    exact = [*sorted(chance.uniform(0, 9000) for _ in range(500)), 9000.0625, 9001.0015]
    cues = [cue(start, end, "x") for start, end in itertools.pairwise(exact)]
    file = tmp_path / "out"
    transcript.append(file, rendered(form, cues))
    assert transcript.resume(file, form, windows(cues)) == len(cues)
    near = [(start + 1e-9, end - 1e-9) for start, end in windows(cues)]
    assert transcript.resume(file, form, near[:-2] + windows(cues)[-2:]) == len(cues)


def test_records_of_another_question_are_told(tmp_path: Path) -> None:
    cues = [cue(i, i + 1, "words", prompt="what?") for i in range(2)]
    file = tmp_path / "out"
    first = rendered("jsonl", cues[:1])
    for text in (rendered("jsonl", cues), first, first[:-1]):
        file.write_text(text)
        for same, told in (
            ({"prompt": "who?"}, "prompt is 'what?' in its window 1 and 'who?' in this run"),
            ({"model": "m", "file": "a"}, "file is None in its window 1 and 'a' in this run"),
        ):
            with pytest.raises(UsageError, match=re.escape(told)):
                transcript.resume(file, "jsonl", windows(cues), same)
            assert file.read_text() == text
    file.write_text(rendered("jsonl", cues))
    assert transcript.resume(file, "jsonl", windows(cues), {"prompt": "what?", "model": "m"}) == 2


def test_what_a_record_says_is_compared_as_json_has_it(tmp_path: Path) -> None:
    one = cue(0, 1, "x", files=("a", "b"))
    file = tmp_path / "out"
    transcript.append(file, transcript.entry("jsonl", 1, one))
    assert transcript.resume(file, "jsonl", [(0, 1)], {"files": ("a", "b")}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_long_file_is_read_in_a_moment(form: Form, tmp_path: Path) -> None:
    cues = [cue(i, i + 1, f"words & <words>\n{i}", prompt="what?") for i in range(100_000)]
    file = tmp_path / "out"
    transcript.append(file, rendered(form, cues) + rendered(form, cues[:1])[:1])
    file.write_bytes(file.read_bytes()[:-9])
    before = time.process_time()
    assert transcript.resume(file, form, windows(cues)) == 99_999
    assert time.process_time() - before < 10


# --- the disk ---


def test_what_is_appended_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "out"
    seen: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(file.read_text())

    monkeypatch.setattr(os, "fsync", watched)
    transcript.append(file, "one\n")
    transcript.append(file, "zwei ü\n")
    assert seen == ["one\n", "one\nzwei ü\n"]
    assert file.read_bytes() == "one\nzwei ü\n".encode()


def test_a_disk_that_fills_up_is_told_and_no_half_entry_stays(tmp_path: Path) -> None:
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from vlmcli import transcript\n"
        "from vlmcli.errors import OutputError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "file = Path(sys.argv[1])\n"
        "transcript.append(file, 'x' * 79 + '\\n')\n"
        "try:\n"
        "    transcript.append(file, 'y' * 79 + '\\n')\n"
        "except OutputError as error:\n"
        "    print(error, error.exit_code.value)\n"
    )
    file = tmp_path / "out"
    command = [sys.executable, "-c", script, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"{file}: the answer cannot be written; file too large 74\n"
    assert file.read_text() == "x" * 79 + "\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_device_is_written_to_as_it_is() -> None:
    full = Path("/dev/full")
    assert transcript.resume(full, "srt", [(0, 1)]) == 0
    with pytest.raises(OutputError, match=r"/dev/full: .*; no space left on device"):
        transcript.append(full, "x\n")
    transcript.append(Path("/dev/null"), "x\n")  # which has no fsync


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, told in (
        ("", "is a directory"),
        ("nowhere/out.srt", "there is no such folder"),
        ("file/out.srt", "not a directory"),
        ("x" * 300, "file name too long"),
    ):
        with pytest.raises(UsageError, match=f"{told}; name another file with -o"):
            transcript.resume(tmp_path / place, "srt", [(0, 1)])
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
