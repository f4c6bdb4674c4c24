"""Saved prompts: `vlm prompts`, and -T with its variables."""

import json
import os
import stat
from pathlib import Path

import pytest
from clips_here import make
from conftest import FakeEngine, Run
from test_completions import completed

RECEIPT = "What is the total, in $currency?"


def folder() -> Path:
    return Path(os.environ["VLM_CONFIG"]).parent / "prompts"


def test_a_saved_prompt_is_a_plain_file_beside_the_configuration(run: Run) -> None:
    assert run("prompts", "save", "receipt", RECEIPT) == (0, "", "")

    assert (folder() / "receipt.txt").read_text() == f"{RECEIPT}\n"
    assert stat.S_IMODE((folder() / "receipt.txt").stat().st_mode) == 0o600
    assert run("prompts", "show", "receipt") == (0, f"{RECEIPT}\n", "")
    assert run("prompts", "path") == (0, f"{folder()}\n", "")
    assert run("prompts", "path", "receipt") == (0, f"{folder() / 'receipt.txt'}\n", "")


def test_a_text_comes_from_stdin_or_from_a_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "long.md").write_text("\n  One.\nTwo: 猫 \n\n", encoding="utf-8")

    assert run("prompts", "save", "piped", "-", stdin="\ufeffName the plants.\n".encode())[0] == 0
    assert run("prompts", "save", "filed", "-f", tmp_path / "long.md")[0] == 0

    assert run("prompts", "show", "piped")[1] == "Name the plants.\n"
    assert run("prompts", "show", "filed")[1] == "One.\nTwo: 猫\n"


def test_the_list_is_lines_with_tabs_in_a_pipe_and_objects_in_json(run: Run) -> None:
    run("prompts", "save", "receipt", f"{RECEIPT}\nThe ${{what}} too.")
    run("prompts", "save", "植物", "Name the plants.")
    (folder() / "by-hand.md").write_text("Costs $$5.")
    (folder() / ".hidden.txt").write_text("Not a prompt.")

    code, out, _ = run("prompts")
    assert code == 0
    assert out.splitlines() == [
        "by-hand\t\tCosts $$5.",
        f"receipt\t$currency $what\t{RECEIPT}",
        "植物\t\tName the plants.",
    ]
    first, second, _ = map(json.loads, run("prompts", "ls", "--json")[1].splitlines())
    assert first == {"name": "by-hand", "variables": [], "text": "Costs $$5."}
    assert second["variables"] == ["currency", "what"]
    assert json.loads(run("prompts", "show", "by-hand", "--json")[1]) == first


def test_a_file_that_is_no_prompt_hides_no_other_in_the_list(run: Run) -> None:
    run("prompts", "save", "plants", "Name the plants.")
    (folder() / "by-hand.txt").write_text("It costs $5.")
    code, out, err = run("prompts", "ls")

    assert (code, out) == (3, "plants\t\tName the plants.\n")
    assert "by-hand.txt: line 1: '$5.' is no variable" in err


def test_with_nothing_saved_the_list_says_how_to_begin(run: Run) -> None:
    code, out, err = run("prompts", "ls")

    assert (code, out) == (0, "") and "vlm prompts save" in err


def test_a_prompt_is_replaced_only_by_force(run: Run) -> None:
    run("prompts", "save", "plants", "Name the plants.")

    code, out, err = run("prompts", "save", "plants", "Count them.")
    assert (code, out) == (2, "") and "--force" in err
    assert run("prompts", "show", "plants")[1] == "Name the plants.\n"

    assert run("prompts", "save", "plants", "Count them.", "--force")[0] == 0
    assert run("prompts", "show", "plants")[1] == "Count them.\n"


def test_prompts_are_removed_all_or_none(run: Run) -> None:
    for name in ("one", "two", "three"):
        run("prompts", "save", name, "Name the plants.")

    code, _, err = run("prompts", "rm", "one", "tow")
    assert code == 2 and "did you mean two?" in err
    assert run("prompts", "rm", "one", "two") == (0, "", "")
    assert [file.name for file in folder().iterdir()] == ["three.txt"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["../up", "x"], "'../up' is no name for a prompt"),
        ([".dot", "x"], "is no name"),
        (["two words", "x"], "is no name"),
        (["plants.txt", "x"], "the .txt is added"),
        (["plants", " \n"], "the prompt is empty"),
        (["plants", "It costs\nabout $5."], "line 2: '$5.' is no variable; a dollar sign"),
        (["plants"], "give a TEXT, or -f FILE"),
        (["plants", "x", "-f", "y"], "give a TEXT, or -f FILE"),
        (["plants", "caf\udce9"], "not valid UTF-8"),
    ],
)
def test_what_is_no_prompt_or_no_name_is_not_saved(
    run: Run, arguments: list[str], says: str
) -> None:
    code, out, err = run("prompts", "save", *arguments)

    assert (code, out) == (2, "")
    assert says in err and err.count("\n") == 1
    assert not folder().exists()


def test_a_file_that_is_no_text_is_told(run: Run, picture: Path, tmp_path: Path) -> None:
    assert "not a text in UTF-8" in run("prompts", "save", "x", "-f", picture)[2]
    assert run("prompts", "save", "x", "-f", tmp_path / "none")[0] == 3
    assert run("prompts", "save", "x", "-f", "/dev/zero")[0] == 3


# --- -T ---


def asked(engine: FakeEngine) -> str:
    conversation, _ = engine.calls[-1]
    return conversation[-1].texts[0]


def test_caption_ask_and_video_take_a_saved_prompt(
    run: Run, picture: Path, tmp_path: Path, fake_engine: FakeEngine
) -> None:
    clip = make(tmp_path / "clip.mp4")
    run("prompts", "save", "receipt", f"{RECEIPT} It is $$.")
    filled = "What is the total, in euro=€? It is $."
    given = ("-T", "receipt", "-D", "currency=euro=€")

    for command, file in (("caption", picture), ("ask", picture), ("video", clip)):
        code, out, err = run(command, *given, file, "--json")
        assert (code, err) == (0, "")
        assert json.loads(out)["prompt"] == asked(fake_engine) == filled


def test_all_arguments_are_pictures_beside_a_saved_prompt(
    run: Run, picture: Path, fake_engine: FakeEngine
) -> None:
    run("prompts", "save", "differ", "What differs?")
    assert run("ask", picture, picture, "--template", "differ")[0] == 0

    assert len(fake_engine.calls[-1][0][-1].images) == 2 and asked(fake_engine) == "What differs?"


def test_a_path_is_read_as_a_file(
    run: Run,
    picture: Path,
    tmp_path: Path,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("Name the $things.\n")

    assert run("ask", picture, "-T", "./mine.txt", "--var", "things=plants")[0] == 0
    assert asked(fake_engine) == "Name the plants."
    code, _, err = run("ask", picture, "-T", "./none.txt")
    assert code == 3 and "none.txt: no such file" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-T", "receipt"], 'receipt has the variable $currency; give it: -D currency="…"'),
        (["-T", "receipt", "-D", "currency=€", "-D", "who=me"], "-D who: receipt has no such"),
        (["-T", "receipt", "-D", "currency=€", "-D", "currency=$"], "given twice"),
        (["-T", "receipt", "-D", "currency"], "not NAME=VALUE"),
        (["-T", "reciept"], "no prompt is called 'reciept'; did you mean receipt?"),
        (["-T", "receipt.txt"], "did you mean receipt?"),
        (["-T", "receipt", "-p", "Why?"], "-T replaces -p"),
        (["-D", "currency=€"], "-D is for the variables of -T"),
    ],
)
@pytest.mark.parametrize("command", ["caption", "ask", "video"])
def test_a_wrong_use_of_a_prompt_is_told_before_a_file_is_read(
    run: Run, fake_engine: FakeEngine, command: str, arguments: list[str], says: str
) -> None:
    run("prompts", "save", "receipt", RECEIPT)
    code, out, err = run(command, "nowhere.png", *arguments)

    assert (code, out) == (2, "")
    assert says in err and "nowhere.png" not in err
    assert fake_engine.loads == []


def test_a_prompt_goes_with_no_style_and_no_conversation(run: Run, fake_engine: FakeEngine) -> None:
    run("prompts", "save", "plants", "Name the plants.")

    code, _, err = run("caption", "nowhere.png", "-T", "plants", "--style", "alt")
    assert code == 2 and "-T replaces --style" in err
    code, _, err = run("ask", "--messages", "nowhere.json", "-T", "plants")
    assert code == 2 and "--messages is the whole conversation" in err


def test_names_of_prompts_complete(run: Run, tmp_path: Path) -> None:
    run("prompts", "save", "receipt", RECEIPT)
    run("prompts", "save", "plants", "Name the plants.")

    assert completed("vlm ask -T re", tmp_path) == ["receipt"]
    assert completed("vlm caption --template ", tmp_path) == ["plants", "receipt"]
    assert completed("vlm prompts show pl", tmp_path) == ["plants"]
