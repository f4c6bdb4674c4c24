"""`vlm chat` with the model that ships inside: real answers, in programs of their own."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from chats_here import Chat, chat
from conftest import DATA, Run

VLM = [sys.executable, "-m", "vlmcli", "chat", "-m", "builtin", "--no-preview"]


@pytest.fixture(autouse=True)
def kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chart.png").write_bytes((DATA / "chart.png").read_bytes())


def answered(talk: Chat, question: str, answer: str) -> None:
    talk.say(question)
    talk.until(f"{answer}\r\n", 60)
    talk.prompted()


def test_lines_of_a_pipe_are_answered_in_turn(run: Run) -> None:
    lines = b"highest bar?\nlowest bar?\nhow many bars are there?\n"
    code, out, err = run("chat", "chart.png", "-m", "builtin", "--stats", stdin=lines)
    assert (code, out) == (0, "C\nA\n4\n"), err
    assert err.count(" cached)") == 2  # the picture is looked at once


@pytest.mark.slow
def test_two_turns_about_a_picture_a_kill_and_on_it_goes() -> None:
    talk = chat(command=[*VLM, "chart.png"])
    talk.until("attached chart.png: 448 x 448, 400 tokens", 60)
    talk.prompted()
    answered(talk, "highest bar?", "C")
    answered(talk, "lowest bar?", "A")
    talk.terminal.process.send_signal(signal.SIGKILL)
    talk.terminal.wait(60)

    going_on = [*VLM, "-c"]
    done = subprocess.run(going_on, input=b"how many bars are there?\n", capture_output=True)
    assert (done.returncode, done.stdout) == (0, b"4\n"), done.stderr
    assert b"2 turns, 1 picture" in done.stderr


@pytest.mark.slow
def test_twenty_columns_without_colour_are_enough_and_a_second_picture_joins() -> None:
    talk = chat(command=[*VLM, "chart.png"], env={"NO_COLOR": "1"}, columns=20)
    talk.until("/help", 60)
    talk.prompted()
    answered(talk, "highest bar?", "C")
    talk.say("/image chart.png")
    talk.until("attached", 60)
    talk.prompted()
    talk.say("same?")
    talk.until("This small", 60)  # of two charts it knows nothing to say
    talk.prompted()
    assert talk.leave() == 0
    assert not re.search(r"\x1b\[(?:\d+;)*3\dm", talk.terminal.text)  # 33A is no colour
