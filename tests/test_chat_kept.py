"""Chats on the disk: what a kill leaves, and how one goes on."""

import json
import os
import stat
import subprocess
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from chats_here import Talker, fake_vlm
from clips_here import make
from conftest import Run, Say, draw

from vlmcli.chat import store
from vlmcli.errors import UsageError


def last() -> Path:
    return store.find()


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- what is written ---


def test_each_turn_is_on_the_disk_for_the_user_alone(say: Say, tmp_path: Path) -> None:
    photo = draw(tmp_path / "a.png")

    say("a.png what?", "and?", arguments=("-s", "Be brief."))

    assert stat.S_IMODE(last().stat().st_mode) == 0o600
    assert stat.S_IMODE(last().parent.stat().st_mode) == 0o700
    begun, asked, answered, *_ = events(last())
    assert (begun["event"], begun["model"], begun["system"]) == ("begun", "fake", "Be brief.")
    assert asked["content"][0]["image"] == str(photo)
    assert asked["content"][1] == {"type": "text", "text": "what?"}
    assert answered["text"] == "heard S: Be brief. U: [a.png] what?"
    assert [event["event"] for event in events(last())] == ["begun", *["asked", "answered"] * 2]


def test_the_question_is_on_the_disk_before_the_model_is_asked(
    say: Say, talker: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str] = []
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), fsync(file))[1])

    def generate(*arguments: Any) -> Any:
        found.append(events(last())[-1]["event"])
        assert synced
        return Talker.generate(talker, *arguments)

    monkeypatch.setattr(talker, "generate", generate)
    say("one")

    assert found == ["asked"]
    assert len(synced) == 2


def test_a_chat_in_which_nothing_was_said_leaves_nothing(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")

    say("/help", "a.png", "/set seed 3", "/system x")

    assert store.paths() == []


def test_a_place_that_cannot_be_written_costs_no_conversation(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VLM_DATA", str(tmp_path / "file"))

    code, out, err = say("one", "two")

    assert (code, len(out)) == (0, 2)
    assert "vlm: warning: this chat is not being kept: " in err


# --- going on ---


def test_c_goes_on_with_the_last_one(say: Say, tmp_path: Path, talker: Talker) -> None:
    draw(tmp_path / "a.png")
    say("something else")
    say("a.png what?", arguments=("-s", "Be brief."))

    code, out, err = say("and?", arguments=("-c",))

    assert code == 0
    said = "heard S: Be brief. U: [a.png] what?"
    assert out == [f"{said} A: {said} U: and?"]
    assert f"vlm: going on with {last().stem}: 1 turn, 1 picture\n" in err
    assert f"> what?\n{said}\n" in err

    assert say("more", arguments=("-c",))[1][0].endswith(" U: and? A: " + out[0] + " U: more")
    assert len(store.paths()) == 2


def test_cid_picks_one_by_its_name_or_the_start_of_it(say: Say) -> None:
    say("one")
    first = last().rename(last().with_stem("20200101-000000"))
    say("two")

    assert say("and?", arguments=("--cid", first.stem))[1] == [
        "heard U: one A: heard U: one U: and?"
    ]
    assert say("hm?", arguments=("--cid", "2020"))[0] == 0
    say("three")
    code, _, err = say(arguments=("--cid", "20"))
    assert code == 2 and "3 chats begin with 20; vlm chat --list shows them" in err
    code, _, err = say(arguments=("--cid", "nope"))
    assert code == 2 and "no chat is called nope" in err


def test_list_shows_them_with_the_last_first(say: Say, run: Run) -> None:
    assert run("chat", "--list") == (0, "", "vlm: no chat is kept yet; vlm chat begins one\n")
    say("first question", "and?", "/undo")
    say("x" * 100, arguments=("-m", "other"))

    _, out, _ = run("chat", "--list")

    rows = [line.split("\t") for line in out.splitlines()]
    assert [row[2:] for row in rows] == [
        ["1", "other", "x" * 59 + "…"],
        ["1", "fake", "first question"],
    ]
    assert rows[0][0] == last().stem


def test_an_answer_that_was_stopped_is_shown_as_such(say: Say) -> None:
    say("one")
    path = last()
    path.write_text(path.read_text().replace('"ending": "stop"', '"ending": "cut"'))

    assert "heard U: one [stopped here]\n" in say("/export talk.md", arguments=("-c",))[2]
    assert "*(stopped here)*" in Path("talk.md").read_text()


def test_the_model_of_a_chat_goes_on_unless_another_is_named(say: Say, talker: Talker) -> None:
    say("one", "/model second", arguments=("-m", "first"))

    say("two", arguments=("-c",))
    say("three", arguments=("-c", "-m", "third"))

    assert [settings.model for settings in talker.loads] == ["first", "second", "second", "third"]


def test_the_system_message_goes_on_unless_another_is_given(say: Say) -> None:
    say("one", "/system Be brief.", arguments=("-s", "Be kind."))

    assert say("two", arguments=("-c",))[1][0].startswith("heard S: Be brief. U: one")
    assert say("two", arguments=("-c", "-s", "Be."))[1][0].startswith("heard S: Be. U: one")


def test_what_was_taken_back_stays_so_and_what_was_answered_anew_too(
    say: Say, talker: Talker
) -> None:
    say("one", "two", "/undo", "fail", "/regen")

    assert say("three", arguments=("-c",))[1] == ["heard U: one A: heard U: one U: three"]


def test_pictures_are_found_from_another_folder(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png")
    say("a.png what?")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    _, out, err = say("and?", arguments=("-c",))

    assert out[0].startswith("heard U: [a.png] what?")
    assert "warning" not in err


def test_a_picture_that_is_gone_is_told_and_the_model_too(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    say("a.png b.png what?")
    (tmp_path / "a.png").unlink()
    draw(tmp_path / "b.png", colour="green")

    code, out, err = say("and?", arguments=("-c",))

    assert code == 0
    assert "a.png: no such file; the model is told that a.png is gone" in err
    assert "b.png has changed since; the model is shown it as it is now" in err
    assert out[0].startswith(
        "heard U: [a.png was shown here, and cannot be seen any more] [b.png] what?"
    )


def test_a_clip_goes_on_with_the_same_frames(
    say: Say, tmp_path: Path, talker: Talker, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(str(tmp_path / "clip.mp4"))
    say("clip.mp4 what?", "/images")
    (before,) = talker.calls[-1][0][0].videos

    _, _, err = say("and?", arguments=("-c",))
    (after,) = talker.calls[-1][0][0].videos

    assert (after.name, after.times_s) == (before.name, before.times_s)
    assert [f.tobytes() for f in after.frames] == [f.tobytes() for f in before.frames]
    assert "1 turn, 0 pictures, 1 clip" in err

    (tmp_path / "clip.mp4").unlink()
    _, out, err = say("and?", arguments=("-c",))
    assert "the model is told that clip.mp4 is gone" in err
    assert "[clip.mp4 was shown here" in out[0]


def test_a_picture_from_a_url_needs_no_network_any_more(say: Say, tmp_path: Path) -> None:
    data = draw(tmp_path / "a.png").read_bytes()

    class Once(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Once) as server:
        Thread(target=server.handle_request).start()
        url = f"http://127.0.0.1:{server.server_port}/cat.png"
        _, out, _ = say(f"{url} what?", "/export talk.json")

    assert out == ["heard U: [cat.png] what?"]
    assert json.loads(Path("talk.json").read_text())[0]["content"][0]["image"] == url
    assert say("and?", arguments=("-c",))[1][0].startswith("heard U: [cat.png] what?")


# --- what a kill leaves ---


def test_a_kill_loses_no_finished_turn_and_keeps_the_question(say: Say, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    with subprocess.Popen(
        fake_vlm("chat", pause_s=0.05), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"a.png what?\nslow\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"heard U: [a.png] what?\n"
        assert process.stdout.read(6) == b"word0 "
        process.kill()

    code, out, err = say("and?", arguments=("-c",))

    assert code == 0
    assert "that question has no answer yet; /regen asks it again" in err
    assert out == ["heard U: [a.png] what? A: heard U: [a.png] what? U: slow and?"]


def test_regen_answers_the_question_that_a_kill_left_open(say: Say) -> None:
    say("one")
    path = last()
    path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines()[:-1]))

    assert say("/regen", "two", arguments=("-c",))[1] == [
        "heard U: one",
        "heard U: one A: heard U: one U: two",
    ]


def test_a_kill_at_any_byte_costs_at_most_the_line_being_written(say: Say) -> None:
    say("one", "two")
    path = last()
    whole = path.read_bytes()
    ends = [end + 1 for end, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(ends[0], len(whole) + 1):
        path.write_bytes(whole[:size])
        kept, happened = store.reopened(path)
        kept.close()
        assert len(happened) == sum(end <= size for end in ends)
        assert path.read_bytes() == whole[: ends[len(happened) - 1]]


@pytest.mark.parametrize("torn", ['{"event": "answered", "te', "", "not json\n", "[]\n", "{}\n"])
def test_a_line_that_says_nothing_is_passed_over(say: Say, torn: str) -> None:
    say("one")
    with last().open("a") as file:
        file.write(torn)

    assert say("two", arguments=("-c",))[1] == ["heard U: one A: heard U: one U: two"]
    assert say("three", arguments=("-c",))[0] == 0


def test_a_chat_of_a_later_version_is_not_touched(say: Say) -> None:
    say("one")
    path = last()
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    before = path.read_bytes()

    code, _, err = say("two", arguments=("-c",))

    assert code == 2 and "is of another version of vlm" in err
    assert path.read_bytes() == before


def test_two_programs_do_not_write_into_one_chat(say: Say) -> None:
    say("one")
    kept, _ = store.reopened(last())

    code, _, err = say("two", arguments=("-c",))
    assert code == 2
    assert f"chat {last().stem} is open in another terminal" in err

    kept.close()
    assert say("two", arguments=("-c",))[0] == 0


def test_two_chats_of_one_second_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.time, "strftime", lambda form: "20200101-000000")
    chats = [store.Transcript() for _ in range(3)]
    for kept in chats:
        kept.begin()
        kept.add("asked", content=[])

    assert [kept.name for kept in chats] == [f"20200101-000000{end}" for end in ("", "-2", "-3")]
    for kept in chats:
        kept.close()
    with pytest.raises(UsageError, match="no chat is called"):
        store.find("2021")
