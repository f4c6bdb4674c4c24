"""`vlm video` through the front door: what is asked, what is shown, what is written."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips_here import counter, make
from conftest import FakeEngine, Run, draw
from PIL import Image as Pixels

from vlmcli import wording
from vlmcli.messages import Image, Text, Video


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Eight seconds; each frame shows its number."""
    return make(tmp_path / "clip.mp4", 200, options={"g": "50"})


def test_a_clip_alone_is_described(run: Run, fake_engine: FakeEngine, clip: Path) -> None:
    code, out, err = run("video", clip)
    assert (code, out, err) == (0, "A red square.\n", "")
    ((message,), _) = fake_engine.calls[0]
    video, words = message.content
    assert isinstance(video, Video) and words == Text(wording.VIDEO)
    assert len(video.frames) == 16 and video.name == str(clip)


def test_a_question_comes_last_or_with_p(run: Run, fake_engine: FakeEngine, clip: Path) -> None:
    for arguments in ((clip, "what happens?"), (clip, "-p", "what happens?")):
        assert run("video", *arguments)[0] == 0
        assert fake_engine.calls[-1][0][-1].texts == ("what happens?",)


def test_the_frames_are_where_they_were_asked_for(
    run: Run, fake_engine: FakeEngine, clip: Path
) -> None:
    def numbers(*options: object) -> list[int]:
        code, _, err = run("video", clip, *options)
        assert code == 0, err
        return [counter(frame) for frame in fake_engine.calls[-1][0][-1].videos[0].frames]

    assert numbers("--max-frames", 4) == [25, 75, 125, 175]
    assert numbers("--fps", "0.5") == [25, 75, 125, 175]
    assert numbers("--start", "4", "--max-frames", 2) == [125, 175]
    assert numbers("--start", "0:02", "--end", "00:00:06", "--fps", 1) == [62, 87, 112, 137]
    assert numbers("--end", "1m", "--max-frames", 1) == [100]  # no further than the clip goes


def test_scenes_are_the_frames_where_the_picture_changes(
    run: Run, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    shades = [40] * 30 + [200] * 90 + [120] * 50 + [10] * 30

    def frames() -> Iterator[Any]:
        yield from (np.full((160, 288, 3), shade, np.uint8) for shade in shades)

    for gop in ("250", "10"):  # with the changes within groups of pictures, and between them
        options = {"g": gop, "sc_threshold": "0"}
        path = make(tmp_path / f"{gop}.mp4", frames=frames(), options=options)
        assert run("video", path, "--scenes", "--max-frames", 4)[0] == 0
        (video,) = fake_engine.calls[-1][0][-1].videos
        seen = [frame.getpixel((9, 99))[0] for frame in video.frames]  # type: ignore[index]
        assert seen == pytest.approx([40, 200, 120, 10], abs=4)
        assert video.times_s == pytest.approx((0, 1.2, 4.8, 6.8), abs=0.45)


def test_clips_and_pictures_are_seen_in_the_order_they_were_named(
    run: Run, fake_engine: FakeEngine, clip: Path, tmp_path: Path
) -> None:
    picture = draw(tmp_path / "photo.png")
    assert run("video", clip, picture, clip, "which?")[0] == 0
    parts = fake_engine.calls[0][0][-1].content
    assert [type(part) for part in parts] == [Video, Image, Video, Text]
    assert [len(video.frames) for video in parts if isinstance(video, Video)] == [8, 8]  # shared


def test_a_rate_that_has_no_room_is_told(run: Run, fake_engine: FakeEngine, clip: Path) -> None:
    code, _, err = run("video", clip, "--fps", 10)
    assert code == 0 and len(fake_engine.calls[0][0][-1].videos[0].frames) == 16
    assert (
        err
        == "vlm: warning: --fps 10 is 80 frames, and fake is shown 16; --max-frames shows more\n"
    )
    assert run("video", clip, "--fps", 10, "--max-frames", 100)[2] == ""
    assert len(fake_engine.calls[1][0][-1].videos[0].frames) == 80


def test_json_says_what_was_seen(run: Run, fake_engine: FakeEngine, clip: Path) -> None:
    code, out, _ = run("video", clip, "what?", "--json", "--max-frames", 2)
    record = json.loads(out)
    assert code == 0 and record["text"] == "A red square." and record["prompt"] == "what?"
    assert (record["file"], record["width"], record["height"]) == (str(clip), 288, 160)
    assert record["clips"] == [{"file": str(clip), "duration": 8.0, "frames": [2.0, 6.0]}]


# An answer for each window


@pytest.fixture
def windows(run: Run, fake_engine: FakeEngine, clip: Path) -> Run:
    """Runs over the clip in windows of three seconds."""
    fake_engine.answers = ("one.", "two\nlines.", "three.", "four.")
    return lambda *options: run("video", clip, "what?", "--every", "3s", *options)


def test_each_window_is_a_line_with_its_times(windows: Run, fake_engine: FakeEngine) -> None:
    code, out, err = windows()
    assert (code, err) == (0, "")
    assert out == "0:00-0:03\tone.\n0:03-0:06\ttwo lines.\n0:06-0:08\tthree.\n"
    assert len(fake_engine.loads) == 1
    for (messages, _), (start, end) in zip(
        fake_engine.calls, ((0, 3), (3, 6), (6, 8)), strict=True
    ):
        (video,) = messages[-1].videos
        assert start < video.times_s[0] and video.times_s[-1] < end
        assert counter(video.frames[0]) == int(video.times_s[0] * 25 + 1e-6)


def test_subtitles_and_records(windows: Run) -> None:
    _, srt, _ = windows("--srt")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:03,000\none.\n\n2\n00:00:03,000 -->")
    _, vtt, _ = windows("--vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n")
    _, lines, _ = windows("--json")
    records = [json.loads(line) for line in lines.splitlines()]
    assert [(r["start"], r["end"]) for r in records] == [(0, 3), (3, 6), (6, 8)]
    assert all(r["clips"][0]["frames"] and r["prompt"] == "what?" for r in records)


@pytest.mark.parametrize("form", [(), ("--srt",), ("--vtt",), ("--json",)])
def test_a_run_that_was_killed_goes_on_where_it_stopped(
    run: Run, fake_engine: FakeEngine, windows: Run, tmp_path: Path, form: tuple[str, ...]
) -> None:
    fake_engine.answers = ("same.",)
    whole, file = tmp_path / "whole", tmp_path / "out"
    assert windows(*form, "-o", whole)[:2] == (0, "")
    content = whole.read_text()
    asked = len(fake_engine.calls)
    for cut in (len(content) * 2 // 3, len(content) - 1, 1, 0):
        file.write_text(content[:cut])
        code, out, err = windows(*form, "-o", file)
        assert (code, out) == (0, ""), err
        assert file.read_text() == content
    assert asked == 3 and len(fake_engine.calls) < asked + 4 * 3  # what was there was not asked

    calls = len(fake_engine.calls)
    code, _, err = windows(*form, "-o", file)
    assert code == 0 and len(fake_engine.calls) == calls
    assert err == f"vlm: {file} is complete: 3 of 3 windows\n"


def test_a_file_of_something_else_is_left_alone(windows: Run, tmp_path: Path) -> None:
    file = tmp_path / "notes.srt"
    file.write_text("my notes\n")
    code, _, err = windows("--srt", "-o", file)
    assert code == 2 and "notes.srt" in err and file.read_text() == "my notes\n"


def test_a_clip_that_is_cut_short_ends_where_it_ends(
    run: Run, fake_engine: FakeEngine, clip: Path, tmp_path: Path
) -> None:
    whole = make(tmp_path / "whole.mp4", 500, container={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    code, out, err = run("video", tmp_path / "cut.mp4", "what?", "--every", "5")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == ["0:00-0:05", "0:05-0:10"]
    assert err.count("damaged or cut short") == 1


# What the model saw


def test_frames_are_kept_with_their_times_in_their_names(
    run: Run, fake_engine: FakeEngine, clip: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "frames"
    assert run("video", clip, "--max-frames", 2, "--frames", folder)[0] == 0
    assert sorted(p.name for p in folder.iterdir()) == ["clip-0002.000s.jpg", "clip-0006.000s.jpg"]
    with Pixels.open(folder / "clip-0006.000s.jpg") as frame:
        assert counter(frame) == 150


def test_a_sheet_goes_into_a_file_where_no_terminal_shows_it(
    run: Run, fake_engine: FakeEngine, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run("video", clip, "--sheet", "--max-frames", 6)
    assert (code, err) == (0, "vlm: the frames are in clip-sheet.png\n")
    with Pixels.open("clip-sheet.png") as sheet:
        assert sheet.width > 600 and sheet.height > 200
    assert run("video", clip, "--sheet=mine.jpg")[0] == 0
    assert Path("mine.jpg").stat().st_size > 1000


def test_a_sheet_of_windows_has_a_frame_of_each(windows: Run, tmp_path: Path) -> None:
    assert windows(f"--sheet={tmp_path / 'one.png'}")[0] == 0
    with Pixels.open(tmp_path / "one.png") as sheet:
        background = sheet.getpixel((0, 0))
        row = [sheet.getpixel((x, 60)) for x in range(sheet.width)]
    edges = sum(a != background and b == background for a, b in itertools.pairwise(row))
    assert edges == 3


def test_a_dry_run_tells_times_sizes_and_tokens_and_loads_no_weights(
    run: Run, clip: Path, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    options = ("-m", tiny("llava"), "--max-frames", 4, "--dry-run", "--frames", tmp_path / "f")
    code, out, err = run("video", clip, "what?", *options)
    shown = json.loads(out)
    assert (code, err) == (0, "")
    (film,) = shown["clips"]
    assert film["frames"] == [1, 3, 5, 7] and film["size"] == [288, 160]
    assert film["image_tokens"] == 4 * 16 and film["resized"] == [56, 56]
    assert shown["prompt"].count("<image>") == 4 and wording.SEQUENCE in shown["prompt"]
    assert len(list((tmp_path / "f").iterdir())) == 4


# What goes wrong


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--fps", "0"), "--fps: '0' is not a number above 0"),
        (("--fps", "fast"), "--fps: 'fast' is not a number above 0"),
        (("--max-frames", "1.5"), "--max-frames: '1.5' is not a whole number from 1"),
        (("--max-frames", "1001"), "--max-frames: '1001' is not a whole number from 1, up to 1000"),
        (("--start", "1:99"), "--start 1:99: "),
        (("--start", "5", "--end", "5"), "--end 0:05 is not after --start 0:05"),
        (("--start", "9"), "--start 0:09: .*clip.mp4 lasts 0:08; start earlier"),
        (("--every", "0"), "--every 0: windows have a length"),
        (("--srt", "--vtt"), "three forms; take one"),
        (("-o", "out.txt"), "-o is for subtitles and for --every"),
        (("--sheet", "new.png"), "new.png: no such file; .*--sheet=new.png"),
        (("--sheet=sheet.txt",), "--sheet=sheet.txt: not the name of a picture"),
    ],
)
def test_a_wrong_option_is_one_line_before_any_model(
    run: Run, fake_engine: FakeEngine, clip: Path, options: tuple[str, ...], says: str
) -> None:
    code, out, err = run("video", clip, *options, "what?")
    assert (code, out, err.count("\n"), fake_engine.loads) == (2, "", 1, [])
    assert re.search(says, err)


def test_a_wrong_file_is_one_line_before_any_model(
    run: Run, fake_engine: FakeEngine, clip: Path, picture: Path, tmp_path: Path
) -> None:
    for arguments, code, says in (
        ((tmp_path / "clip.mp5", "what?"), 3, "did you mean"),
        ((clip.parent,), 3, "a folder; name clips"),
        (("what happens " * 40,), 3, "no such file"),
        (("a\0b",), 3, "no such file"),
        ((picture, "what?"), 2, "there is no clip among the files; vlm ask is for pictures"),
        ((), 2, "no clip was given"),
        ((clip, "-p", " "), 2, "the question is empty"),
        ((clip, clip, "--every", "2"), 2, "times are those of one clip"),
    ):
        got, out, err = run("video", *arguments)
        assert (got, out, err.count("\n"), fake_engine.loads) == (code, "", 1, []), err
        assert says in err


def test_ask_and_caption_send_clips_to_video(run: Run, clip: Path) -> None:
    for arguments in (("caption", clip), ("ask", clip, "what?")):
        code, _, err = run(*arguments)
        assert code == 3 and "it seems to be a video; vlm video answers about clips" in err
