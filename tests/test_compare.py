"""`vlm compare`: several models, one after the other, each in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import DATA, FakeEngine, Run, draw
from terminal import Terminal, spawn

from vlmcli import apart
from vlmcli.errors import DeviceError, InputError, ModelError

CHART = DATA / "chart.png"


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, fake_engine: FakeEngine) -> FakeEngine:
    """Models are faked, which another process would know nothing of."""
    monkeypatch.setattr(apart, "iterate", lambda name, work, *arguments: work(*arguments))
    return fake_engine


def test_a_line_a_model_with_times_and_memory_in_a_pipe(
    run: Run, picture: Path, here: FakeEngine
) -> None:
    here.answers = ("A square\tof|\nred.", "Red.")
    code, out, err = run("compare", "-m", "a/a", "-m", "b/b", picture, "what is it?")
    first, second = (line.split("\t") for line in out.splitlines())

    assert (code, err) == (0, "")
    assert first[:5] == ["fake", "A square of red.", "0.5000", "1.0000", "2.00"]
    assert second[:5] == ["fake", "Red.", "0.5000", "1.0000", ""]
    assert float(first[5]) < 1 and int(first[6]) > 10_000_000 and first[7:] == ["", "64"]
    assert [settings.model for settings in here.loads] == ["a/a", "b/b"]
    assert all(call[0][-1].texts == ("what is it?",) for call in here.calls)


def test_pictures_are_seen_together_or_each_for_itself(
    run: Run, tmp_path: Path, here: FakeEngine
) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "caf\udce9.png")
    models = ("-m", "a/a", "-m", "b/b")

    assert run("compare", *models, a, b, "what differs?")[1].count("\n") == 2
    assert [len(call[0][-1].images) for call in here.calls] == [2, 2]

    here.calls.clear()
    code, out, _ = run("compare", *models, "--each", "-i", a, "-p", "what?", "--json")
    assert code == 0 and [json.loads(line)["file"] for line in out.splitlines()] == [str(a)] * 2


def test_each_picture_has_its_lines_by_model(run: Run, tmp_path: Path, here: FakeEngine) -> None:
    a, b = draw(tmp_path / "a.png"), draw(tmp_path / "b.png")
    here.answers = ("a of one", "b of one", "a of two", "b of two")
    _, out, _ = run("compare", "-m", "one", "-m", "two", "--each", a, b, "what?")

    assert [line.split("\t")[:3] for line in out.splitlines()] == [
        [str(a), "fake", "a of one"],
        [str(a), "fake", "a of two"],
        [str(b), "fake", "b of one"],
        [str(b), "fake", "b of two"],
    ]


def test_a_record_says_what_it_took_and_can_be_replayed(
    run: Run, picture: Path, here: FakeEngine, tmp_path: Path
) -> None:
    models = ("-m", "a/a", "-m", "b/b")
    _, out, _ = run("compare", *models, picture, "what?", "--json", "-n", 9, "-s", "Be brief.")
    record = json.loads(out.splitlines()[0])

    assert record["load_seconds"] >= 0 and record["peak_bytes"] > 10_000_000
    assert record["settings"] == {"system": "Be brief.", "max_tokens": 9}
    (tmp_path / "both.jsonl").write_text(out)
    assert run("replay", tmp_path / "both.jsonl") == (0, f"{picture}\tsame\n" * 2, "")


def test_a_saved_prompt_is_the_question(run: Run, picture: Path, here: FakeEngine) -> None:
    run("prompts", "save", "plants", "Name the $what.")
    given = ("-T", "plants", "-D", "what=colours")
    assert run("compare", "-m", "a", "-m", "b", *given, picture)[0] == 0
    assert here.calls[-1][0][-1].texts == ("Name the colours.",)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["x.png", "what?"], 2, "two models or more"),
        (["-m", "a", "x.png", "what?"], 2, "two models or more"),
        (["-m", "a", "-m", "b"], 2, "for example: vlm compare -m"),
        (["-m", "a", "-m", "b", "x.png"], 2, "the question comes last"),
        (["-m", "a", "-m", "b", "x.png", "what?"], 3, "x.png: no such file"),
        (["-m", "a", "-m", "", "x.png", "what?"], 2, "--model: the value is empty"),
    ],
)
def test_what_is_wrong_is_told_before_any_model_loads(
    run: Run, here: FakeEngine, arguments: list[str], code: int, says: str
) -> None:
    found, out, err = run("compare", *arguments)

    assert (found, out, here.loads) == (code, "", []) and says in err


def test_a_picture_that_one_model_refuses_stops_no_other(
    run: Run, tmp_path: Path, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apart, "iterate", lambda name, work, *arguments: work(*arguments))
    a, thin = draw(tmp_path / "a.png"), draw(tmp_path / "thin.png", (1, 3000))
    models = ("-m", tiny("qwen3_vl"), "-m", "builtin")
    code, out, err = run("compare", *models, "--each", thin, a, "what?", "-n", 2, "--json")
    refused, *answered = map(json.loads, out.splitlines())

    assert code == 3 and "aspect ratio" in err
    assert refused["file"] == str(thin) and "aspect ratio" in refused["error"]
    assert [one["file"] for one in answered] == [str(a), str(thin), str(a)]


# --- processes of their own ---


@pytest.mark.slow
def test_a_model_that_fails_is_a_row_and_the_others_answer(run: Run) -> None:
    models = ("-m", "builtin", "-m", "owner/none", "-m", "builtin")
    code, out, err = run("compare", *models, CHART, "highest bar?", "--offline")
    first, failed, last = (line.split("\t") for line in out.splitlines())

    assert code == 4
    assert first[:2] == last[:2] == ["builtin", "C"] and first[8] == "400"
    assert failed == ["owner/none"] + [""] * 8
    assert "owner/none (main) is not in the cache" in err and err.count("\n") == 1
    # Neither is counted for the other: they are the same model.
    assert abs(int(first[6]) - int(last[6])) < 0.2 * int(first[6])


def compare_in_terminal(columns: int) -> Terminal:
    models = ("-m", "builtin", "-m", "owner/none", "--offline")
    asked = (str(CHART), "what is in the picture?")
    command = [sys.executable, "-m", "vlmcli", "compare", *models, *asked]
    return spawn(command, columns=columns)


@pytest.mark.slow
def test_a_terminal_shows_columns() -> None:
    terminal = compare_in_terminal(100)
    assert terminal.wait(60) == 4
    lines = terminal.screen()

    title = next(line for line in lines if "owner/none" in line)
    assert title.index("builtin") < title.index("owner/none")
    answer = next(line for line in lines if line.lstrip().startswith("answer"))
    assert "A bar chart" in answer and "owner/none (main) is not" in answer
    assert any(line.split()[:1] == ["memory"] and "MB" in line for line in lines)


SIDES = """
from vlmcli.output import Side, side_by_side
side_by_side("a.png", [
    Side("one", "[red]A[/red]\\x1b[2J\\nB", {"total": ("1.00 s", "1"), "speed": ("", "")}),
    Side("two", "none", {"total": ("", ""), "speed": ("", "")}, failed=True),
])
"""


def test_a_narrow_terminal_shows_one_below_the_other_and_obeys_no_answer() -> None:
    terminal = spawn([sys.executable, "-c", SIDES], columns=40)
    assert terminal.wait(20) == 0
    expected = ["a.png", "one", "[red]A[/red][2J", "B", "total 1.00 s", "", "two", "none"]
    assert terminal.screen() == expected


def test_a_wide_terminal_obeys_no_answer_either() -> None:
    terminal = spawn([sys.executable, "-c", SIDES], columns=80)
    assert terminal.wait(20) == 0
    lines = [line.split() for line in terminal.screen()]
    assert ["answer", "[red]A[/red][2J", "none"] in lines and ["total", "1.00", "s"] in lines
    assert not any("speed" in line for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("delay_s", [0.4, 0.8, 3.0])
def test_ctrl_c_ends_all_of_it_without_a_word(delay_s: float) -> None:
    terminal = compare_in_terminal(80)
    time.sleep(delay_s)
    children = psutil.Process(terminal.process.pid).children(recursive=True)
    terminal.send(b"\x03")

    assert terminal.wait(20) == -signal.SIGINT
    assert "Traceback" not in terminal.text
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []


def numbers(*given: int) -> Iterator[int]:
    for number in given:
        if number < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 0:
            raise ModelError("nought", hint="take another")
        yield number


def broken() -> Iterator[int]:
    yield 1 // 0


def test_what_another_process_yields_and_raises_comes_here() -> None:
    found = apart.iterate("x", numbers, 1, 2, 0, 3)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(ModelError, match="nought; take another"):
        next(found)

    with pytest.raises(Exception, match="a bug: ZeroDivisionError"):
        list(apart.iterate("x", broken))


def test_a_process_that_is_killed_is_told() -> None:
    found = apart.iterate("big/model", numbers, 1, -1)
    assert next(found) == 1
    with pytest.raises(DeviceError, match=r"big/model: its process was killed; did the memory"):
        next(found)


def test_an_input_error_is_the_same_on_the_other_side() -> None:
    error = InputError("x.png: too thin", hint="take another")
    (found,) = apart.iterate("x", iter_of, error)
    assert isinstance(found, InputError)
    assert (str(found), found.exit_code, found.hint) == (str(error), 3, "take another")


def iter_of(value: object) -> Iterator[object]:
    yield value


def test_a_full_disk_is_no_failure_of_a_model(picture: Path) -> None:
    command = f"exec {sys.executable} -m vlmcli compare -m builtin -m builtin {picture} hm? --json"
    done = subprocess.run(
        ["sh", "-c", f"{command} >/dev/full"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 74 and "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
