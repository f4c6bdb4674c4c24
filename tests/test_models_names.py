"""`vlm models default` and `vlm models alias`, and what the shell completes with."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import models_here
import pytest
from conftest import FakeEngine, Run
from models_here import OTHER, World

from vlmcli.app import main
from vlmcli.models import catalog, names

SMOLVLM = catalog.RECOMMENDED.name
OURS = '# my settings\nmax_tokens = 7  # short\n\n[aliases] # mine\n"a" = "owner/a"  # first\n'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with models_here.world(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The config.toml of the test."""
    there = tmp_path / "config.toml"
    there.write_text(OURS)
    monkeypatch.setenv("VLM_CONFIG", str(there))
    return there


# default


def test_the_default_is_told_with_who_says_so(
    run: Run, world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("models", "default")
    assert (code, out) == (0, "auto\n") and "auto" in err
    run("models", "default", "owner/name")
    assert run("models", "default") == (0, "owner/name\n", f"vlm: by {file}: model\n")
    monkeypatch.setenv("VLM_MODEL", "other/name")
    assert run("models", "default") == (0, "other/name\n", "vlm: by VLM_MODEL\n")
    record = json.loads(run("models", "default", "--json")[1])
    assert record == {"model": "other/name", "origin": "VLM_MODEL"}


def test_the_default_is_set_and_unset_and_comments_stay(
    run: Run, world: World, file: Path, fake_engine: FakeEngine, picture: Path
) -> None:
    code, out, _ = run("models", "default", "owner/name")
    assert (code, out) == (0, "owner/name\n")
    assert file.read_text().replace('model = "owner/name"\n', "").replace("\n\n", "\n") == (
        OURS.replace("\n\n", "\n")
    )
    run("caption", picture)
    assert fake_engine.loads[0].model == "owner/name" and fake_engine.loads[0].max_tokens == 7
    assert run("models", "default", "--unset")[:2] == (0, "auto\n")
    assert file.read_text() == OURS


def test_a_default_that_is_not_here_or_comes_second_is_said(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLM_MODEL", "other/name")
    code, out, err = run("models", "default", "owner/name")
    assert (code, out) == (0, "other/name\n")
    assert "VLM_MODEL=other/name comes first" in err and "vlm models pull owner/name" in err


def test_a_folder_is_written_down_from_its_root(
    run: Run, world: World, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models_here.write_model(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    assert run("models", "default", "./mine")[:2] == (0, f"{tmp_path}/mine\n")
    assert run("models", "alias", "short", "mine/")[0] == 0
    assert run("models", "alias", "short")[1] == f"{tmp_path}/mine\n"


@pytest.mark.parametrize("name", ["word", "a/b/c", "./nowhere", "owner/name@../x"])
def test_what_can_be_no_model_is_not_written(run: Run, world: World, file: Path, name: str) -> None:
    for arguments in (["default", name], ["alias", "x", name]):
        code, out, err = run("models", *arguments)
        assert (code, out, err.count("\n")) == (4, "", 1)
    assert file.read_text() == OURS


# alias


def test_an_alias_is_set_used_listed_and_forgotten_and_comments_stay(
    run: Run, world: World, file: Path
) -> None:
    world.put("owner/name")
    assert run("models", "alias", "mine", "owner/name") == (0, "", "")
    assert file.read_text() == OURS + 'mine = "owner/name"\n'
    assert run("models", "alias", "mine") == (0, "owner/name\n", "")
    code, out, err = run("models", "pull", "mine")
    assert code == 0 and out.startswith("owner/name\t") and "here already" in err
    lines = run("models", "alias")[1].splitlines()
    assert lines[:2] == ["a\towner/a\tyours", "mine\towner/name\tyours"]
    assert f"smolvlm\t{SMOLVLM}\t" in lines
    records = [json.loads(line) for line in run("models", "alias", "--json")[1].splitlines()]
    assert {"alias": "mine", "name": "owner/name", "own": True} in records
    assert run("models", "alias", "--rm", "mine") == (0, "", "")
    assert file.read_text() == OURS


def test_the_users_alias_wins_over_the_table_until_it_is_forgotten(
    run: Run, world: World, file: Path
) -> None:
    code, _, err = run("models", "alias", "smolvlm", "owner/name")
    assert code == 0 and SMOLVLM in err
    assert names.hub_name("smolvlm") == ("owner/name", "main")
    run("models", "alias", "--rm", "smolvlm")
    assert names.hub_name("smolvlm") == (SMOLVLM, "main")


def test_an_alias_can_hold_a_revision_which_gives_way_to_a_typed_one(
    run: Run, world: World, file: Path
) -> None:
    world.put("owner/name")
    world.serve("owner/name", {"v2": OTHER})
    run("models", "alias", "pinned", "owner/name@v2")
    assert OTHER in run("models", "pull", "pinned")[1]
    assert names.hub_name("pinned@main") == ("owner/name", "main")
    assert names.hub_name("pinned", "v3") == ("owner/name", "v3")
    assert run("models", "rm", "-y", "pinned")[1].startswith("owner/name@v2\t")
    assert run("models", "ls", "--json")[1].count("\n") == 1


def test_an_alias_can_stand_for_another_but_not_in_a_circle(
    run: Run, world: World, file: Path
) -> None:
    assert run("models", "alias", "small", "smolvlm")[0] == 0
    assert names.hub_name("small@v1") == (SMOLVLM, "v1")
    code, out, err = run("models", "alias", "smolvlm", "small")
    assert (code, out, err.count("\n")) == (2, "", 1) and "circle" in err
    file.write_text('[aliases]\nx = "y"\ny = "x"\n')
    code, out, err = run("models", "show", "x")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert str(file) in err and "x = y = x" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["auto", "owner/name"],
        ["builtin", "owner/name"],
        ["a/b", "owner/name"],
        ["a@b", "owner/name"],
        ["", "owner/name"],
        ["x", "auto"],
        ["nothing-like-it"],
        ["--rm"],
        ["--rm", "a", "owner/name"],
        ["--rm", "smolvlm"],
        ["--rm", "unknown"],
    ],
    ids=" ".join,
)
def test_a_wrong_alias_is_exit_2_and_nothing_is_written(
    run: Run, world: World, file: Path, arguments: list[str]
) -> None:
    code, out, err = run("models", "alias", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert file.read_text() == OURS


@pytest.mark.parametrize("text", ["aliases = 3", "[aliases]\nx = 3", '[aliases]\nx = ""'])
def test_a_broken_table_of_aliases_is_named(run: Run, world: World, file: Path, text: str) -> None:
    file.write_text(text)
    code, out, err = run("models", "show", "x")
    assert (code, out, err.count("\n")) == (2, "", 1) and f"{file}: aliases" in err


def test_forgetting_an_alias_where_there_is_no_table_is_one_line(
    run: Run, world: World, file: Path
) -> None:
    file.write_text('aliases = "mine"')
    code, out, err = run("models", "alias", "--rm", "mine")
    assert (code, out) == (2, "") and f"{file}: aliases is not a table" in err


# the shell


def completed(words: str) -> list[str]:
    """What bash would offer for the last of `words`."""
    environment = {
        **os.environ,
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_VLM_COMPLETE": "complete_bash",
    }
    command = [sys.executable, "-m", "vlmcli"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


def test_names_complete_from_the_cache_and_the_aliases(world: World, file: Path) -> None:
    world.put("owner/cached")
    (world.place("part/of-it") / "blobs").mkdir(parents=True)
    file.write_text('[aliases]\nown = "owner/cached"\nowl = "owner/elsewhere"\n')
    assert completed("vlm mod") == ["models"]
    assert completed("vlm models ") == ["ls", "pull", "rm", "show", "default", "alias", "verify"]
    assert completed("vlm models show ow") == ["own", "owl", "owner/cached"]
    assert completed("vlm models rm ow") == ["own", "owner/cached"]
    assert completed("vlm models rm part") == ["part/of-it"]
    assert completed("vlm models verify own") == ["own", "owner/cached"]
    assert completed("vlm models alias ow") == ["own", "owl"]
    assert completed("vlm models default smolvlm-") == [
        "smolvlm-2b",
        "smolvlm-500m",
        "smolvlm-256m",
    ]
    assert completed("vlm ask -m ow") == ["own", "owl", "owner/cached"]


def test_a_broken_file_does_not_break_completion(world: World, file: Path) -> None:
    world.put("owner/cached")
    file.write_text("[aliases")
    assert completed("vlm models show ow") == ["owner/cached"]


@pytest.mark.parametrize("command", ["ls", "pull", "rm", "show", "default", "alias", "verify"])
def test_every_help_has_an_example_and_imports_nothing_heavy(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", command, "--help"]) == 0
    assert f"Example: vlm models {command}" in capsys.readouterr().out
    script = (
        "import sys; from vlmcli.app import main; main(sys.argv[1:]);"
        "sys.exit(' '.join({'torch', 'transformers', 'huggingface_hub', 'httpx2', 'tomlkit'}"
        " & set(sys.modules)) or 0)"
    )
    subprocess.run(
        [sys.executable, "-c", script, "models", command, "-h"],
        stdout=subprocess.DEVNULL,
        check=True,
    )


def test_an_unknown_sub_command_is_told_the_nearest(run: Run) -> None:
    code, out, err = run("models", "lst")
    assert (code, out) == (2, "") and "did you mean vlm models ls?" in err
    assert run("models", "--jsn")[0] == 2
