"""`vlm grep`: which pictures it finds, what it prints of them, and what it tells the shell."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import terminal
from conftest import FakeEngine, Run, draw
from PIL import Image

DOG = "a dog"


@pytest.fixture
def dogs(tmp_path: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Four pictures in the current folder, of which the first and the third show a dog."""
    monkeypatch.chdir(tmp_path)
    names = ["1-dog.png", "2-cat.png", "3-dog.png", "4-cat.png"]
    fake_engine.chances = {name: (0.7, 0.1) if "dog" in name else (0.02, 0.9) for name in names}
    for name in names:
        draw(tmp_path / name)
    return names


def pdf(path: Path, pages: int) -> Path:
    first, *rest = [Image.new("RGB", (60, 80), "white") for _ in range(pages)]
    first.save(path, save_all=True, append_images=rest)
    return path


# What is found


def test_the_pictures_of_which_it_is_true_are_printed_a_line_each(
    run: Run, dogs: list[str], fake_engine: FakeEngine
) -> None:
    assert run("grep", DOG, *dogs) == (0, "1-dog.png\n3-dog.png\n", "")
    assert [name for name, _ in fake_engine.asked] == dogs
    assert len(fake_engine.loads) == 1


def test_nothing_found_exits_1_and_says_nothing(run: Run, dogs: list[str]) -> None:
    assert run("grep", DOG, "2-cat.png", "4-cat.png") == (1, "", "")


def test_what_is_asked_is_whether_the_picture_shows_it(
    run: Run, dogs: list[str], fake_engine: FakeEngine
) -> None:
    run("grep", "  a dog ", "1-dog.png")
    run("grep", "is it dark?", "1-dog.png")
    run("grep", "犬はいますか？", "1-dog.png")

    assert [question for _, question in fake_engine.asked] == [
        "Does this picture show a dog? Answer with yes or no.",
        "is it dark?",
        "犬はいますか？",
    ]


@pytest.mark.parametrize(
    ("flags", "code", "out"),
    [
        (["-v"], 0, "2-cat.png\n4-cat.png\n"),
        (["--invert-match"], 0, "2-cat.png\n4-cat.png\n"),
        (["-l"], 0, "1-dog.png\n3-dog.png\n"),
        (["-L"], 0, "2-cat.png\n4-cat.png\n"),
        (["-vL"], 0, "1-dog.png\n3-dog.png\n"),
        (["-c"], 0, "2\n"),
        (["-vc"], 0, "2\n"),
        (["-0"], 0, "1-dog.png\x003-dog.png\x00"),
        (["-Z", "-v"], 0, "2-cat.png\x004-cat.png\x00"),
        (["-m", "1"], 0, "1-dog.png\n"),
        (["-m1", "-v"], 0, "2-cat.png\n"),
        (["-m", "1", "-c"], 0, "1\n"),
        (["-m", "0"], 1, ""),
        (["-q"], 0, ""),
        (["-qc"], 0, ""),
        (["--silent", "--json"], 0, ""),
        (["--scores"], 0, "0.875\t1-dog.png\n0.875\t3-dog.png\n"),
        (["--scores", "-v"], 0, "0.022\t2-cat.png\n0.022\t4-cat.png\n"),
        (["--scores", "-0m1"], 0, "0.875\t1-dog.png\x00"),
        (["--threshold", "0.9"], 1, ""),
        (["--threshold", "0.9", "-c"], 1, "0\n"),
        (["--threshold", ".875", "-c"], 0, "2\n"),
        (["--threshold", "0.01", "-c"], 0, "4\n"),
        (
            ["--threshold", "0", "--scores"],
            0,
            "0.875\t1-dog.png\n0.022\t2-cat.png\n0.875\t3-dog.png\n0.022\t4-cat.png\n",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_flags_are_those_of_grep(
    run: Run, dogs: list[str], flags: list[str], code: int, out: str
) -> None:
    assert run("grep", *flags, DOG, *dogs) == (code, out, "")
    assert run("grep", DOG, *dogs, *flags) == (code, out, "")


@pytest.mark.parametrize(("flags", "asked"), [(["-q"], 1), (["-m2"], 3), (["-qv"], 2)])
def test_it_stops_as_soon_as_enough_is_found(
    run: Run, dogs: list[str], fake_engine: FakeEngine, flags: list[str], asked: int
) -> None:
    run("grep", *flags, DOG, *dogs)
    assert len(fake_engine.asked) == asked


def test_any_of_several_statements_may_be_true_and_no_more_are_asked_than_it_takes(
    run: Run, dogs: list[str], fake_engine: FakeEngine
) -> None:
    fake_engine.chances = {"red": (0.9, 0.1), **fake_engine.chances}
    assert run("grep", "-e", DOG, "-e", "a red ball", *dogs[:2])[:2] == (
        0,
        "1-dog.png\n2-cat.png\n",
    )
    assert [name for name, _ in fake_engine.asked] == ["1-dog.png", "2-cat.png", "2-cat.png"]
    assert run("grep", "-v", "-e", DOG, "-e", "a red ball", *dogs)[0] == 1
    _, out, _ = run("grep", "-e", DOG, "-e", "a red ball", dogs[0], "--scores")
    assert out == "0.900\t1-dog.png\n"


@pytest.mark.parametrize("where", ["tags.txt", "-"])
def test_statements_come_from_a_file_too(
    run: Run, dogs: list[str], fake_engine: FakeEngine, where: str
) -> None:
    lines = "a house\n\nein Löwe\r\n"
    Path("tags.txt").write_text(lines, encoding="utf-8")
    code, _, _ = run("grep", "-f", where, "-e", "a cow", "2-cat.png", stdin=lines.encode())

    assert code == 1
    asked = [question.split(" show ")[1].split("?")[0] for _, question in fake_engine.asked]
    assert asked == ["a cow", "a house", "ein Löwe"]


# PDFs


@pytest.mark.parametrize(
    ("flags", "code", "out", "pages"),
    [
        ([], 0, "a.pdf#page=2\na.pdf#page=3\n", 5),
        (["-v"], 0, "a.pdf#page=1\nb.pdf#page=1\nb.pdf#page=2\n", 5),
        (["-c"], 0, "2\n", 5),
        (["-l"], 0, "a.pdf\n", 4),
        (["-lc"], 0, "1\n", 4),
        (["-vl"], 0, "a.pdf\nb.pdf\n", 2),
        (["-L"], 0, "b.pdf\n", 4),
        (["-L", "--scores"], 0, "0.200\tb.pdf\n", 4),
        (["-l", "-m1"], 0, "a.pdf\n", 2),
        (["-m1"], 0, "a.pdf#page=2\n", 2),
        (["-vL"], 1, "", 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_page_of_a_pdf_is_a_picture_and_l_takes_the_file(
    run: Run,
    tmp_path: Path,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    code: int,
    out: str,
    pages: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    pdf(tmp_path / "a.pdf", 3), pdf(tmp_path / "b.pdf", 2)
    fake_engine.chances = {"a.pdf#page=1": (0.1, 0.9), "a.pdf": (0.8, 0.2), "b.pdf": (0.2, 0.8)}

    assert run("grep", *flags, DOG, "a.pdf", "b.pdf") == (code, out, "")
    assert len(fake_engine.asked) == pages


# Files


def test_r_goes_into_sub_folders_and_alone_looks_through_this_one(
    run: Run, dogs: list[str], tmp_path: Path
) -> None:
    (tmp_path / "deep").mkdir()
    Path("3-dog.png").rename("deep/3-dog.png")

    assert run("grep", DOG, tmp_path)[1] == f"{tmp_path}/1-dog.png\n"
    assert run("grep", "-r", DOG)[1] == "./1-dog.png\n./deep/3-dog.png\n"
    assert run("grep", "-rc", DOG, "deep")[1] == "1\n"


def test_the_pictures_can_come_from_a_list(run: Run, dogs: list[str]) -> None:
    listed = "".join(f"{name}\0" for name in dogs).encode()
    named = run("grep", "a dog", *dogs)
    assert named[0] == 0 and named[1]
    assert run("grep", "a dog", "--files0-from", "-", stdin=listed) == named
    code, _, err = run("grep", "a dog", "--files0-from", "-", *dogs)
    assert code == 2 and "both name pictures" in err


def test_stdin_is_a_picture(run: Run, picture: Path, fake_engine: FakeEngine) -> None:
    fake_engine.chances = {"-": (0.9, 0.1)}
    assert run("grep", DOG, "-", stdin=picture.read_bytes()) == (0, "-\n", "")


def test_a_name_keeps_its_bytes_in_a_pipe(
    tmp_path: Path, fake_engine: FakeEngine, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    from vlmcli.app import main

    fake_engine.chances = {"dog": (0.9, 0.1)}
    odd = tmp_path / os.fsdecode(b"dog \n\xff\xf0\x9f\x90\xb6.png")
    draw(tmp_path / "a.png").rename(odd)

    assert main(["grep", "-0", DOG, str(odd)]) == 0
    assert capfdbinary.readouterr().out == os.fsencode(odd) + b"\0"


# Errors


def test_a_bad_file_among_good_ones_is_told_passed_over_and_decides_the_code(
    run: Run, dogs: list[str]
) -> None:
    code, out, err = run("grep", DOG, "nowhere.png", *dogs)

    assert (code, out) == (3, "1-dog.png\n3-dog.png\n")
    assert err.startswith("vlm: nowhere.png: no such file") and err.count("\n") == 1
    assert run("grep", DOG, "nowhere.png", "2-cat.png")[0] == 3
    assert run("grep", "-L", DOG, "nowhere.png")[:2] == (3, "")


def test_q_forgives_a_bad_file_once_something_is_found(run: Run, dogs: list[str]) -> None:
    code, out, err = run("grep", "-q", DOG, "nowhere.png", *dogs)
    assert (code, out) == (0, "") and "nowhere.png" in err
    assert run("grep", "-qs", DOG, "nowhere.png", *dogs) == (0, "", "")
    assert run("grep", "-qs", DOG, "nowhere.png", "2-cat.png") == (3, "", "")


def test_s_is_silent_about_bad_files_and_changes_no_code(run: Run, dogs: list[str]) -> None:
    assert run("grep", "-s", DOG, "nowhere.png", *dogs) == (3, "1-dog.png\n3-dog.png\n", "")


def test_bad_files_alone_load_no_model(run: Run, fake_engine: FakeEngine) -> None:
    assert run("grep", DOG, "nowhere.png", "nor-here.png")[:2] == (3, "")
    assert fake_engine.loads == []


def test_a_pdf_that_breaks_off_is_not_among_those_without(
    run: Run, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    whole = pdf(tmp_path / "a.pdf", 2)
    whole.write_bytes(whole.read_bytes()[:400])

    assert run("grep", "-L", DOG, whole)[:2] == (3, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no statement was given; for example: vlm grep"),
        ([DOG], "no picture was given; for example: vlm grep"),
        (["-e", DOG], "no picture was given"),
        (["-r"], "no statement was given"),
        (["photo.png", DOG], "the statement comes first, and photo.png is a file; or use -e"),
        (["  ", "photo.png"], "the statement is empty"),
        (["-e", "", "photo.png"], "the statement is empty"),
        (["-l", "-L", DOG, "photo.png"], "-l and -L are opposites"),
        ([DOG, "photo.png", "--threshold", "high"], "--threshold: 'high' is not a probability"),
        ([DOG, "photo.png", "--threshold", "1.1"], "'1.1' is not a probability; from 0 to 1"),
        ([DOG, "photo.png", "--threshold", "nan"], "'nan' is not a probability"),
        ([DOG, "photo.png", "-m", "smolvlm"], "the model is -M smolvlm"),
        ([DOG, "photo.png", "-m", "-1"], "-m: '-1' is not a whole number"),
        ([DOG, "photo.png", "--lang", "ja"], "No such option: --lang"),
        (["a \udcff", "photo.png"], "is not valid UTF-8"),
        (["-f", "empty.txt", "photo.png"], "-f empty.txt: there is no statement in it"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_2(
    run: Run,
    picture: Path,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(picture.parent)
    Path("empty.txt").write_text("\n \n")
    code, out, err = run("grep", *arguments)

    assert (code, out) == (2, "")
    assert says in err and err.count("\n") == 1
    assert fake_engine.loads == []


def test_a_file_of_statements_that_is_missing_exits_3(run: Run, picture: Path) -> None:
    code, out, err = run("grep", "-f", "nowhere.txt", picture)
    assert (code, out, err) == (3, "", "vlm: -f nowhere.txt: no such file or directory\n")


def test_a_model_that_tells_no_probabilities_exits_4(
    run: Run, picture: Path, fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_engine, "affirm", None, raising=False)
    code, out, err = run("grep", DOG, picture)
    assert (code, out) == (4, "")
    assert "fake does not tell how likely its words are" in err and err.count("\n") == 1


def test_a_model_that_would_say_something_else_is_warned_of_once(
    run: Run, dogs: list[str], fake_engine: FakeEngine
) -> None:
    fake_engine.chances = {"1-dog": (0.03, 0.001), "3-dog": (0.03, 0.001)}
    code, out, err = run("grep", DOG, *dogs)

    assert (code, out) == (0, "1-dog.png\n3-dog.png\n")
    assert err.startswith("vlm: warning: 1-dog.png: the model would answer neither yes nor no")
    assert err.count("\n") == 1


# The settings


def test_m_is_greps_and_the_model_has_a_letter_of_its_own(
    run: Run, dogs: list[str], fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("grep", DOG, dogs[0], "-M", "owner/name")
    run("grep", DOG, dogs[0], "--model", "owner/other")
    monkeypatch.setenv("VLM_MODEL", "owner/third")
    run("grep", DOG, dogs[0])

    models = [settings.model for settings in fake_engine.loads]
    assert models == ["owner/name", "owner/other", "owner/third"]


def test_verbose_and_stats_go_to_stderr(run: Run, dogs: list[str]) -> None:
    code, out, err = run("grep", DOG, *dogs[:2], "--verbose", "--stats")

    assert (code, out) == (0, "1-dog.png\n")
    assert "vlm: model: fake" in err
    assert err.count("fake on cpu, float32: 76 prompt tokens") == 2


def test_json_is_a_record_of_every_picture_and_statement(run: Run, dogs: list[str]) -> None:
    code, out, _ = run("grep", "-e", DOG, "-e", "a cow", *dogs[:2], "nowhere.png", "--json")
    first, second, third, _, bad = (json.loads(line) for line in out.splitlines())

    assert code == 3
    assert [*first][:7] == [
        "file", "statement", "match", "threshold", "probability", "yes", "no"
    ]  # fmt: skip
    assert (first["file"], first["statement"], first["match"]) == ("1-dog.png", DOG, True)
    assert (first["probability"], first["yes"], first["no"]) == (0.875, 0.7, 0.1)
    assert (second["file"], second["statement"]) == ("1-dog.png", "a cow")
    assert (third["file"], third["match"], third["threshold"]) == ("2-cat.png", False, 0.5)
    assert first["prompt"] == "Does this picture show a dog? Answer with yes or no."
    assert (first["model"], first["width"], len(first["sha256"])) == ("fake", 64, 64)
    assert (first["prompt_tokens"], first["image_tokens"]) == (76, 64) and first["version"]
    assert "text" not in first
    assert set(bad) == {"file", "error"}


def test_v_turns_what_is_found_and_not_what_a_record_says(run: Run, dogs: list[str]) -> None:
    code, out, _ = run("grep", "-v", DOG, "1-dog.png", "--json")
    assert code == 1 and json.loads(out)["match"] is True


def test_json_counts_too(run: Run, dogs: list[str]) -> None:
    assert run("grep", "-c", DOG, *dogs, "--json") == (0, '{"count": 2}\n', "")


def test_what_is_set_for_the_words_of_answers_changes_nothing(
    run: Run, dogs: list[str], fake_engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_LANG", "ja")
    monkeypatch.setenv("VLM_SYSTEM", "Be brief.")
    _, out, _ = run("grep", DOG, dogs[0], "--json")

    assert fake_engine.asked[0][1] == "Does this picture show a dog? Answer with yes or no."
    assert "settings" not in json.loads(out)


# In a shell and on a terminal

FAKE = """
import time
from vlmcli import backends, messages
from vlmcli.app import run
from vlmcli.backends import Engine
from vlmcli.messages import Done, Verdict

def affirm(conversation):
    time.sleep({pause})
    name = messages.images_of(conversation)[0].name
    chances = (0.9, 0.1) if "dog" in name else (0.1, 0.9)
    return Verdict(*chances, Done("stop", 1, 1, 1, 0.1, 0.1))

backends.load = lambda settings: Engine("fake", "cpu", "float32", None, affirm=affirm)
run()
"""


def command(pause: float, *arguments: object) -> list[str]:
    script = FAKE.format(pause=pause)
    return [sys.executable, "-c", script, "grep", *(str(argument) for argument in arguments)]


def test_each_file_is_printed_as_soon_as_it_is_known_and_a_reader_may_leave(
    dogs: list[str],
) -> None:
    line = [DOG, *dogs * 100]
    with subprocess.Popen(
        command(0.05, *line), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "1-dog.png\n"
        process.stdout.close()
        err = process.stderr.read()

    assert (process.returncode, err) == (0, "")


def test_ctrl_c_keeps_what_was_printed_and_dies_of_the_signal(dogs: list[str]) -> None:
    with subprocess.Popen(
        command(0.05, DOG, *dogs * 100), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1-dog.png\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)

    assert process.returncode == -signal.SIGINT
    assert "Traceback" not in err


def test_a_shell_takes_it_as_a_condition_and_passes_names_on(dogs: list[str]) -> None:
    grep = shlex.join(command(0, DOG))
    script = f"""
        {grep} -q 2-cat.png && echo wrong
        {grep} -q 1-dog.png && echo right
        {grep} -0r | xargs -0 -n 1 basename
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "right\n1-dog.png\n3-dog.png\n"


def test_a_terminal_shows_a_bar_below_the_names_and_no_escape_of_a_name(
    dogs: list[str], tmp_path: Path
) -> None:
    draw(tmp_path / "dog \x1b[31mred\x1b[m.png")
    shown = terminal.spawn(command(0.2, "-r", DOG), columns=40)
    assert "/?" in shown.read_until("/?")  # how many there are is not known before
    assert shown.wait() == 0
    assert shown.screen() == ["./1-dog.png", "./3-dog.png", "./dog [31mred[m.png"]


@pytest.mark.parametrize("family", ["smolvlm", "qwen3_vl"])
def test_a_real_model_gives_probabilities(
    run: Run, tiny: Callable[[str], Path], picture: Path, family: str
) -> None:
    code, out, err = run(
        "grep", "--threshold", 0, "-e", DOG, "-e", "a cat", picture, "--json", "-M", tiny(family)
    )
    dog, cat = (json.loads(line) for line in out.splitlines())

    assert code == 0, err
    assert 0 < dog["yes"] + dog["no"] <= 1 and 0 <= dog["probability"] <= 1
    assert dog["image_tokens"] and cat["prompt"] != dog["prompt"]


def test_stdin_is_one_thing(run: Run, dogs: list[str]) -> None:
    for twice in (["-f", "-", "--files-from", "-"], ["-f", "-", "-"]):
        code, _, err = run("grep", *twice, stdin=b"a dog\n")
        assert code == 2 and "stdin can be read once" in err


def test_forms_of_answers_in_the_environment_are_none_of_its_business(
    run: Run, dogs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("VLM_CHOICES", "VLM_SCHEMA", "VLM_TOP_P", "VLM_SYSTEM"):
        monkeypatch.setenv(name, "0.5,a")
    monkeypatch.setenv("VLM_TOP_P", "0.5")
    code, out, err = run("grep", DOG, *dogs, "--json")
    assert (code, err) == (0, "")
    assert not any(json.loads(line).keys() & {"messages", "settings"} for line in out.splitlines())
