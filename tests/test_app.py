"""The front door: help, usage, exit codes, pipes and signals."""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FakeEngine, Run

import vlmcli
from vlmcli import backends
from vlmcli.app import COMMANDS

HEAVY = ("torch", "transformers", "av", "PIL", "numpy", "huggingface_hub", "prompt_toolkit")


def vlm(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vlmcli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload, no-any-return]


def test_version_is_one_line(run: Run) -> None:
    assert run("--version") == (0, f"vlm {vlmcli.__version__}\n", "")


def test_help_names_every_command_and_gives_an_example(run: Run) -> None:
    code, out, err = run("--help")

    assert (code, err) == (0, "")
    assert all(f"  {name}  " in out for name in COMMANDS)
    assert "Example: vlm" in out


def test_no_arguments_show_the_help(run: Run) -> None:
    assert run() == run("--help")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example(run: Run, command: str) -> None:
    code, out, err = run(command, "--help")

    assert (code, err) == (0, "")
    assert f"Example: vlm {command} " in out


@pytest.mark.parametrize("command", ["caption", "ask", "chat"])
def test_a_command_that_answers_takes_every_setting(run: Run, command: str) -> None:
    _, out, _ = run(command, "--help")

    assert "--model" in out and "--max-tokens" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["caption", "--help"],
        ["chat", "--help"],
        ["chat", "--list", "-c"],
        ["ask"],
        ["caption"],
        ["nonsense"],
        ["ask", "--nonsense"],
        ["caption", "x.png", "--top-k", "many"],
        ["caption", "x.png", "--top-k", "-1"],
        ["caption", "--style", "x", "y"],
        ["grep"],
        ["grep", "a dog", "x.png", "-m", "smolvlm"],
        ["caption", "x.png", "-T", "none"],
        ["prompts"],
        ["compare", "-m", "a", "x.png", "what?"],
        ["replay"],
    ],
    ids=" ".join,
)
def test_help_and_usage_errors_import_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from vlmcli.app import main; main(sys.argv[1:]);"
        f"sys.exit(' '.join(m for m in {HEAVY} if m in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["capton", "x.png"], "did you mean vlm caption?"),
        (["frobnicate"], "see vlm --help"),
        (["caption"], "Missing argument"),
        (["caption", "--xyzzy", "x.png"], "No such option: --xyzzy; see vlm caption --help"),
        (["caption", "x.png", "--style", "haiku"], "haiku; short, detailed"),
        (["caption", "x.png", "-n", "0"], "--max-tokens: 0 is too small; at least 1"),
        (["caption", "x.png", "-t", "hot"], "--temperature: 'hot' is not a number"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    run: Run, arguments: list[str], says: str
) -> None:
    code, out, err = run(*arguments)

    assert (code, out) == (2, "")
    assert says in err and err.startswith("vlm: ") and err.count("\n") == 1


def test_a_bug_is_one_line_that_says_how_to_see_it(
    run: Run, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr(backends, "load", broken)
    code, out, err = run("caption", picture)
    assert (code, out) == (70, "")
    assert "ZeroDivisionError: by nought" in err and "VLM_DEBUG=1" in err
    assert err.count("\n") == 1

    monkeypatch.setenv("VLM_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("caption", picture)


def test_debug_shows_where_an_error_came_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_DEBUG", "1")
    code, _, err = run("caption", "nowhere.png")

    assert code == 3
    assert "Traceback" in err and "nowhere.png: no such file" in err.splitlines()[-1]


FAKE = """
import sys, time
from vlmcli import backends
from vlmcli.app import run
from vlmcli.backends import Engine
from vlmcli.messages import Delta, Done

def generate(conversation, sampling):
    print("answering", file=sys.stderr, flush=True)
    for n in range({deltas}):
        yield Delta("word ")
        time.sleep({pause})
    yield Done("stop", 1, 1, 1, 0.1, 0.1)

backends.load = lambda settings: Engine("fake", "cpu", "float32", generate)
run()
"""


def fake_vlm(deltas: int, pause: float, *arguments: str) -> "subprocess.Popen[str]":
    script = FAKE.format(deltas=deltas, pause=pause)
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_reader_that_leaves_ends_it_quietly(picture: Path) -> None:
    """As in `vlm caption *.jpg | head -1`."""
    with fake_vlm(1, 0.01, "caption", *[str(picture)] * 200) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == f"{picture}\tword\n"
        process.stdout.close()
        err = process.stderr.read()

    assert process.returncode == 0
    assert "Traceback" not in err and "Broken" not in err


def test_ctrl_c_keeps_what_was_printed_and_dies_of_the_signal(picture: Path) -> None:
    """A shell sees 130, and its loop ends as well, which it would not after a plain exit."""
    with fake_vlm(1000, 0.05, "caption", str(picture)) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.read(15) == "word word word "
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=10)

    assert process.returncode == -signal.SIGINT
    assert set(rest.split()) <= {"word"} and rest.endswith("\n")
    assert "Traceback" not in err


def test_ctrl_c_ends_a_shells_loop_too(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "vlm.py").write_text(FAKE.format(deltas=1000, pause=0.05))
    command = f"{sys.executable} {tmp_path / 'vlm.py'} caption {picture}"
    loop = f"for n in 1 2 3; do {command}; echo after $?; done; echo not reached"
    with subprocess.Popen(
        ["bash", "-c", loop], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as shell:
        assert shell.stdout is not None
        assert shell.stdout.read(10) == "word word "
        os.killpg(shell.pid, signal.SIGINT)  # as a terminal does
        rest = shell.stdout.read()

    assert "after" not in rest and "not reached" not in rest


def test_it_is_a_module_too() -> None:
    assert vlm("--version").stdout == f"vlm {vlmcli.__version__}\n"


def test_no_file_of_the_users_is_needed(
    tiny: Callable[[str], Path], picture: Path, tmp_path: Path
) -> None:
    """A home that is missing, and cannot be made, stops nothing."""
    nowhere = str(tmp_path / "file/missing")
    (tmp_path / "file").touch()
    names = ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "HF_HOME")
    environment = {**os.environ, **dict.fromkeys(names, nowhere)}
    del environment["VLM_CONFIG"]
    done = vlm("ask", str(picture), "hm?", "-m", str(tiny("smolvlm")), "-n", "2", env=environment)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_engine_is_told_what_the_settings_say(
    run: Run, picture: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_TEMPERATURE", "0.5")
    run("caption", picture, "-n", "9", "--stop", "a", "--stop", "b", "--seed", "3")

    (_, sampling), *_ = fake_engine.calls
    assert (sampling.max_tokens, sampling.temperature, sampling.seed) == (9, 0.5, 3)
    assert sampling.stop == ("a", "b")


def tiny_vlm(model: Path, picture: Path, redirection: str, *arguments: str) -> tuple[int, str, str]:
    """A real model on its real thread, with the streams as a shell sets them up."""
    command = [sys.executable, "-m", "vlmcli", "ask", picture, "hm?", "-m", model, *arguments]
    line = f"{shlex.join(map(str, command))} {redirection}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("redirection", "code", "says"),
    [
        ("| true", 0, ""),
        ("| head -c 3", 0, ""),
        ("> /dev/full", 74, "vlm: the answer cannot be written; no space left on device\n"),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("--stats 2> /dev/full", 0, ""),
        ("<&-", 0, ""),
    ],
)
def test_a_stream_that_is_closed_or_full_is_no_bug(
    tiny: Callable[[str], Path], picture: Path, redirection: str, code: int, says: str
) -> None:
    found, out, err = tiny_vlm(tiny("smolvlm"), picture, redirection, "-n", "40")

    assert (found, err) == (code, says)
    if redirection in ("2>&-", "--stats 2> /dev/full", "<&-"):
        assert out.strip()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--help | true", 0),
        ("--help > /dev/full", 74),
        ("--version > /dev/full", 74),
        ("--help >&-", 0),
        ("caption nowhere.png 2>&-", 3),
        ("caption nowhere.png 2> /dev/full", 3),
        ("ask --messages - <&-", 3),
    ],
)
def test_the_exit_code_does_not_depend_on_who_listens(line: str, code: int) -> None:
    command = f"{sys.executable} -m vlmcli {line}; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert done.returncode == code
    assert "Traceback" not in done.stderr and "a bug" not in done.stderr
