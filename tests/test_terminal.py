"""`vlm` on a real terminal: streaming, Ctrl-C, and what a model may not do to the screen."""

import os
import sys
from pathlib import Path

import pytest
from terminal import spawn

SCRIPT = """
import os, sys, time
from vlmcli import backends
from vlmcli.app import run
from vlmcli.backends import Engine
from vlmcli.messages import Delta, Done

def generate(conversation, sampling):
    for piece in {pieces!r}:
        yield Delta(piece)
        time.sleep({pause})
    yield Done("stop", 1, 1, 1, 0.1, 0.1)

backends.load = lambda settings: Engine("fake", "cpu", "float32", generate)
run()
"""

HOSTILE = [
    "plain \x1b",
    "]52;c;aGFjaw==\x07 \x1b[31mred\x1b[0m \x9b2J \u202edrowssap",
    " [bold]not markup[/bold] [/b]\r\nline two",
]


def fake_vlm(pieces: list[str], *arguments: object, pause: float = 0.0) -> list[str]:
    script = SCRIPT.format(pieces=pieces, pause=pause)
    return [sys.executable, "-c", script, *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "TERM": "xterm-256color"}


def test_an_answer_is_drawn_while_it_comes(picture: Path) -> None:
    words = [f"word{n} " for n in range(200)]
    terminal = spawn(fake_vlm(words, "caption", picture, pause=0.05), env=environment())
    terminal.read_until("word3", 10)
    assert "word199" not in terminal.text
    terminal.send(b"\x03")
    terminal.wait(10)


def test_ctrl_c_keeps_the_answer_so_far_and_the_cursor(picture: Path) -> None:
    words = [f"word{n} " for n in range(200)]
    terminal = spawn(fake_vlm(words, "ask", picture, "hm?", pause=0.05), env=environment())
    terminal.read_until("word5", 10)
    terminal.send(b"\x03")
    assert terminal.wait(10) in (-2, 130)
    screen = "\n".join(terminal.screen())

    assert "word0 word1 word2 word3 word4 word5" in screen
    assert "Traceback" not in screen
    assert terminal.text.rfind("\x1b[?25l") <= terminal.text.rfind("\x1b[?25h")


@pytest.mark.parametrize(
    "command", [["ask", "hm?"], ["caption"], ["caption", "-H"], ["caption", "--json"]]
)
def test_nothing_that_a_model_says_commands_the_terminal(picture: Path, command: list[str]) -> None:
    arguments = [command[0], picture, *command[1:]]
    terminal = spawn(fake_vlm(HOSTILE, *arguments), env=environment())
    assert terminal.wait(10) == 0

    for forbidden in ("\x1b]52", "\x1b[31mred", "\x9b", "\u202e"):
        assert forbidden not in terminal.text
    assert "[bold]not markup[/bold] [/b]" in "\n".join(terminal.screen())


def test_a_file_name_does_not_command_the_terminal_either(tmp_path: Path, picture: Path) -> None:
    evil = tmp_path / "a\x1b]52;c;aGFjaw==\x07b.png"
    evil.write_bytes(picture.read_bytes())
    missing = tmp_path / "c\x1b[2Jd.png"
    command = fake_vlm(["Hm."], "caption", evil, missing)
    terminal = spawn(command, env=environment())
    assert terminal.wait(10) == 3

    assert "\x1b]52" not in terminal.text and "\x1b[2Jd" not in terminal.text
    assert "Hm." in terminal.text


def test_japanese_is_not_broken_in_a_narrow_terminal(picture: Path) -> None:
    text = "棒グラフの最高値は四十二です。次に高いのは三十一です。"
    command = fake_vlm(list(text), "ask", picture, "最高値は？")
    terminal = spawn(command, env=environment(), columns=20)
    assert terminal.wait(10) == 0
    lines = terminal.screen()

    shown = "".join(line.strip() for line in lines)
    assert text in shown
    assert all(sum(2 if ord(c) > 0x2E80 else 1 for c in line.rstrip()) <= 20 for line in lines)


def test_markdown_is_rendered_on_a_terminal(picture: Path) -> None:
    command = fake_vlm(["# Title\n\n", "- **one**\n", "- two\n"], "ask", picture, "hm?")
    terminal = spawn(command, env=environment())
    assert terminal.wait(10) == 0
    screen = "\n".join(terminal.screen())

    assert "Title" in screen and "# Title" not in screen
    assert "one" in screen and "**" not in screen


def test_many_captions_leave_no_trace_of_the_bar(tmp_path: Path, picture: Path) -> None:
    command = fake_vlm(["A caption."], "caption", *[picture] * 5, pause=0.2)
    terminal = spawn(command, env=environment(), columns=200)
    assert terminal.wait(20) == 0
    lines = [line.rstrip() for line in terminal.screen() if line.strip()]

    assert len(lines) == 5
    assert all(line.startswith(str(picture)) and line.endswith("A caption.") for line in lines)
