"""`vlm chat` on a real terminal: the line that is typed, what is drawn, and Ctrl-C."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from chats_here import PICTURE_TOKENS, Chat, chat
from conftest import draw

from vlmcli.chat import store


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a.png")
    draw(tmp_path / "My cat.png", size=(20, 30))
    return tmp_path


def begun(*arguments: object, **options: object) -> Chat:
    """A chat that waits for its first line."""
    talk = chat("--no-preview", *arguments, **options)  # type: ignore[arg-type]
    talk.until("/help lists")
    talk.prompted()
    return talk


def last_events() -> list[dict[str, object]]:
    return [json.loads(line) for line in store.find().read_text().splitlines()]


# --- a conversation ---


def test_two_turns_about_a_picture_and_a_second_one_joins() -> None:
    talk = begun("a.png")
    talk.say("what is it?")
    talk.until("heard U: [a.png] what is it?")
    talk.prompted()
    talk.say("and why?")
    talk.until("U: and why?")
    talk.prompted()
    talk.say("'My cat.png' same?")
    talk.until("attached My cat.png")
    talk.until("U: [My cat.png] same?")
    talk.prompted()
    assert talk.leave() == 0

    screen = talk.screen()
    assert f"vlm: attached My cat.png: 20 x 30, {PICTURE_TOKENS} tokens" in screen
    assert f"kept as {store.find().stem}; vlm chat -c goes on with it" in screen
    asked = [event["content"] for event in last_events() if event["event"] == "asked"]
    assert [len(content) for content in asked] == [2, 1, 2]  # type: ignore[arg-type]


def test_what_will_be_attached_is_shown_before_enter() -> None:
    talk = begun()
    talk.type("what is in a.png")
    talk.until("with a.png")
    assert not store.paths()
    talk.say("")
    talk.until("attached a.png")
    talk.until("heard U: [a.png] what is in a.png")
    talk.prompted()
    talk.leave()


def test_a_dropped_file_waits_for_the_question(tmp_path: Path) -> None:
    talk = begun()
    talk.type(f"\x1b[200~'{tmp_path}/My cat.png' \x1b[201~")
    talk.until("with My cat.png")
    talk.say("")
    talk.until("attached My cat.png")
    talk.prompted()
    assert not store.paths()
    talk.say("who?")
    talk.until("heard U: [My cat.png] who?")
    talk.prompted()
    talk.leave()


def test_stdout_is_the_answers_though_the_line_is_typed(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        talk = begun(stdout=file.fileno())
        talk.say("one")
        talk.prompted()
        talk.leave()

    assert (tmp_path / "out").read_text() == "heard U: one\n"


def test_errors_are_a_line_and_the_chat_goes_on() -> None:
    talk = begun()
    for typed, said in (
        ("nope.png what?", "vlm: nope.png: no such file"),
        ("please fail", "vlm: the model cannot do that; ask something else"),
        ("a bug", "vlm: a bug: ZeroDivisionError"),
        ("/hlep", "did you mean /help?"),
        ("what?", "heard U: what?"),
    ):
        talk.say(typed)
        talk.until(said)
        talk.prompted()
    assert talk.leave() == 0


# --- Ctrl-C, Ctrl-D ---


def test_ctrl_c_stops_the_answer_only_and_keeps_it_marked() -> None:
    talk = begun(pause_s=0.05)
    talk.say("slow")
    talk.until("word3")
    talk.type("\x03")
    talk.until("vlm: stopped")
    talk.prompted()
    talk.say("and?")
    talk.until("U: slow A: word0 word1 word2")
    talk.until("U: and?")
    talk.prompted()
    talk.say("/export talk.md")
    talk.until("talk.md")
    talk.prompted()
    talk.say("/export talk.json")
    talk.until("talk.json")
    talk.prompted()
    assert talk.leave() == 0

    assert "word3" in talk.screen() and "word199" not in talk.screen()
    cut, finished = (e for e in last_events() if e["event"] == "answered")
    assert (cut["ending"], finished["ending"]) == ("cut", "stop")
    assert "word3" in str(cut["text"]) and "word199" not in str(cut["text"])
    assert "\n\n*(stopped here)*\n" in Path("talk.md").read_text()
    assert [m.get("cut") for m in json.loads(Path("talk.json").read_text())] == [
        None,
        True,
        None,
        None,
    ]


def test_ctrl_c_at_the_prompt_clears_the_line_and_ctrl_d_leaves() -> None:
    talk = begun()
    talk.type("not to be sent")
    talk.until("sent")
    talk.type("\x03")
    talk.prompted()
    talk.say("sent")
    talk.until("heard U: sent")
    talk.prompted()
    assert talk.leave() == 0


def test_what_is_typed_ahead_is_not_drawn_into_the_answer() -> None:
    talk = begun(pause_s=0.02)
    talk.say("slow")
    talk.until("word3")
    talk.type("typed ahead\r")
    talk.until("word199")
    talk.prompted()
    talk.until("U: typed ahead")
    talk.prompted()
    talk.leave()

    assert sum("typed ahead" in line for line in talk.terminal.screen()) == 2  # line and answer


def test_a_kill_in_an_answer_and_c_goes_on_with_all_of_it() -> None:
    talk = begun("a.png", pause_s=0.05)
    talk.say("what?")
    talk.until("heard U: [a.png] what?")
    talk.prompted()
    talk.say("slow")
    talk.until("word3")
    os.kill(talk.terminal.process.pid, signal.SIGKILL)
    assert talk.terminal.wait(60) == -signal.SIGKILL

    again = chat("-c", "--no-preview")
    again.until("2 turns, 1 picture")
    again.until("slow")
    again.until("/regen asks it again")
    again.prompted()
    again.say("and?")
    again.until("heard U: [a.png] what? A: heard U: [a.png] what? U: slow and?")
    again.prompted()
    assert again.leave() == 0


# --- the line ---


def test_three_quotes_and_alt_enter_make_several_lines() -> None:
    talk = begun()
    talk.say('"""one')
    talk.say('two"""')
    talk.until("heard U: one two")
    talk.prompted()
    talk.type("three\x1b\rfour\r")
    talk.until("U: three four")
    talk.prompted()
    talk.leave()

    assert [event["content"] for event in last_events() if event["event"] == "asked"] == [
        [{"type": "text", "text": "one\ntwo"}],
        [{"type": "text", "text": "three\nfour"}],
    ]


def test_ctrl_g_opens_the_editor(tmp_path: Path) -> None:
    editor = tmp_path / "edit.sh"
    editor.write_text('#!/bin/sh\nprintf "%s\\nand more\\n" "$(cat "$1")" > "$1"\n')
    editor.chmod(0o755)
    talk = begun(env={"EDITOR": str(editor)})
    talk.type("typed\x07")
    talk.until("and more")
    talk.say("")
    talk.until("heard U: typed and more")
    talk.prompted()
    talk.leave()


def test_an_editor_that_is_missing_or_fails_leaves_the_line() -> None:
    talk = begun(env={"EDITOR": "false"})
    talk.type("typed\x07")
    talk.until("vlm: warning: false ended with 1; the line stays as it was")
    talk.say("")
    talk.until("heard U: typed")
    talk.prompted()
    talk.leave()


def test_tab_completes_commands_settings_models_and_files(tmp_path: Path) -> None:
    (tmp_path / "other.txt").touch()
    talk = begun()
    for typed, becomes in (
        ("/expo\t", "/export "),
        ("/set temp\t", "/set temperature "),
        ("/set stats y\t", "/set stats yes"),
        ("/model built\t", "/model builtin"),
        ("/image My\t", "/image My\\ cat.png"),
        ("what is in a.\t", "what is in a.png"),
    ):
        talk.type(typed)
        talk.until(becomes.split()[-1][len(typed.split()[-1]) :])
        assert becomes.strip() in talk.screen()
        talk.type("\x15")  # Ctrl-U: the line is empty again
    talk.type("/s\t")
    talk.until("/system")
    talk.prompted()
    talk.type("\x15")
    talk.leave()


def test_typed_lines_are_remembered_by_the_next_chat() -> None:
    talk = begun()
    talk.say("remember me")
    talk.until("heard U: remember me")
    talk.prompted()
    talk.say('"""two')
    talk.say('lines"""')
    talk.until("U: two lines")
    talk.prompted()
    talk.leave()
    kept = store.folder() / "chat-history"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600

    again = begun()
    again.type("\x1b[A")
    again.until('lines"""')
    again.type("\x1b[A\x1b[A")
    again.until("remember me")
    again.say("")
    again.until("heard U: remember me")
    again.prompted()
    again.leave()


# --- what is drawn ---


def test_an_answer_commands_nothing_and_is_no_markup() -> None:
    talk = begun()
    talk.say("hostile")
    talk.until("no markup")
    talk.prompted()
    talk.leave()

    assert "\x1b]52" not in talk.terminal.text and "\u202e" not in talk.terminal.text
    assert "\x9b" not in talk.terminal.text
    assert "plain ]52;c;aGFjaw== [31mred 2J drow [bold]no markup[/bold] [/b]" in talk.screen()


def test_markdown_is_drawn_and_code_is_coloured() -> None:
    talk = begun()
    talk.say("code")
    talk.until("two")
    talk.prompted()
    talk.leave()

    assert "```" not in talk.screen() and "print(42)  # **stars**" in talk.screen()
    assert " • two" in talk.screen()
    assert "\x1b[38;5;" in talk.terminal.text


@pytest.mark.parametrize("columns", [20, 40])
def test_a_narrow_terminal_will_do(columns: int) -> None:
    talk = begun("a.png", columns=columns)
    talk.say("what is in a.png here?")
    talk.until("heard")
    talk.prompted()
    talk.say("code")
    talk.until("two")
    talk.prompted()
    assert talk.leave() == 0

    lines = talk.terminal.screen()
    assert all(len(line) <= columns for line in lines)
    assert "heardU:[a.png]whatisina.pnghere?" in "".join(lines).replace(" ", "")


def test_no_colour_where_none_is_wanted() -> None:
    talk = begun("a.png", env={"NO_COLOR": "1"})
    talk.say("code a.png")
    talk.until("two")
    talk.prompted()
    talk.leave()

    colours = [code for code in ("\x1b[3", "\x1b[4") if f"{code}8;" in talk.terminal.text]
    assert colours == []
    assert "\x1b[36m" not in talk.terminal.text and "\x1b[0;36" not in talk.terminal.text


def test_a_dumb_terminal_is_a_terminal_too() -> None:
    talk = begun("a.png", env={"TERM": "dumb"}, pause_s=0.05)
    talk.say("what?")
    talk.until("heard U: [a.png] what?")
    talk.prompted()
    talk.type("not sent\x03")
    talk.prompted()
    talk.say("slow")
    talk.until("word3")
    talk.type("\x03")
    talk.until("stopped")
    talk.prompted()
    talk.say('"""one')
    talk.prompted()
    talk.say('two"""')
    talk.until("U: one two")
    talk.prompted()
    assert talk.leave() == 0

    assert "\x1b" not in talk.terminal.text
    assert "not sent" not in store.find().read_text()


@pytest.mark.parametrize(
    ("environment", "sign"),
    [({}, "▀"), ({"TERM": "xterm-kitty"}, "\x1b_Ga=T"), ({"NO_COLOR": "1"}, None)],
)
def test_a_thumbnail_is_shown_where_the_terminal_can(
    environment: dict[str, str], sign: str | None
) -> None:
    draw(Path("large.png"), size=(2000, 1500))
    talk = chat("large.png", env=environment)
    talk.until("attached large.png")
    talk.prompted()
    talk.leave()

    shown = [mark for mark in ("▀", "\x1b_Ga=T") if mark in talk.terminal.text]
    assert shown == ([sign] if sign else [])
    assert talk.terminal.text.count("▀") <= 32 * 8


def test_no_preview_shows_none() -> None:
    talk = begun("a.png")
    talk.leave()

    assert "▀" not in talk.terminal.text


@pytest.mark.slow
def test_a_real_model_holds_a_conversation(chat_model: str, tmp_path: Path) -> None:
    """In programs of its own: two turns, a second picture, Ctrl-C, a kill, and on it goes."""
    vlm = [sys.executable, "-m", "vlmcli", "chat", "--no-preview"]
    flags = ["-m", chat_model, "--device", "cpu", "-n", "8", "-v"]
    talk = chat(command=[*vlm, *flags, "a.png"])
    talk.until("/help lists", 120)
    talk.until("attached a.png: 64 x 48, ")
    talk.prompted()
    for line in ("what is it?", "'My cat.png' and this?"):
        talk.say(line)
        talk.until("looking")
        talk.until("vlm: the answer was cut at 8 tokens", 120)
        talk.prompted()
    talk.say("/stats")
    talk.until("2 turns, 2 pictures")
    talk.prompted()
    talk.say("/set n 4000")
    talk.prompted()
    talk.say("a long one")
    talk.until("looking")
    os.kill(talk.terminal.process.pid, signal.SIGKILL)
    talk.terminal.wait(60)

    going_on = [*vlm, "-n", "4", "-c", "--device", "cpu"]
    done = subprocess.run(going_on, input=b"and?\n", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert b"3 turns, 2 pictures" in done.stderr
    answered = [event for event in last_events() if event["event"] == "answered"]
    assert len(answered) == 3 and all(event["model"] for event in answered)
