"""`vlm models verify`: damage is found without a network, and mended with one."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import models_here
import pytest
from conftest import Run
from hub_server import MAIN
from huggingface_hub import constants
from models_here import OTHER, World, spoil


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with models_here.world(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def go_offline(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def damage(folder: Path, how: str) -> str:
    """Spoil a file of a snapshot in one way; its name."""
    match how:
        case "a changed byte":
            spoil(folder / "model.safetensors")
            return "model.safetensors"
        case "a cut file":
            os.truncate((folder / "tokenizer.json").resolve(), 1)
            return "tokenizer.json"
        case "a link to nothing":
            (folder / "config.json").resolve().unlink()
            return "config.json"
        case _:  # a file that vlm has no use for
            spoil(folder / "notes.md")
            return "notes.md"


DAMAGES = ("a changed byte", "a cut file", "a link to nothing", "another program's file")


def test_sound_models_are_ok_and_nobody_is_asked(
    run: Run, world: World, go_offline: Callable[[], None]
) -> None:
    world.put("owner/one")
    world.put("owner/two")
    go_offline()
    code, out, err = run("models", "verify")
    assert (code, err) == (0, "") and world.hub.requests == []
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        ["owner/one", "ok"],
        ["owner/two", "ok"],
    ]


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_found_and_mended(run: Run, world: World, how: str) -> None:
    folder = world.put("owner/name", notes__md="notes")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    name = damage(folder, how)
    code, out, err = run("models", "verify", "owner/name")
    assert (code, out, err) == (0, f"owner/name\tmended\t{name}\n", "")
    assert world.hub.fetched() == [name]
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert run("models", "verify", "owner/name")[1].startswith("owner/name\tok\t")
    assert not [*world.cache.rglob("*.damaged")]


@pytest.mark.parametrize("how", DAMAGES)
def test_without_the_hub_damage_is_told_and_stays(
    run: Run, world: World, go_offline: Callable[[], None], how: str
) -> None:
    folder = world.put("owner/name", notes__md="notes")
    name = damage(folder, how)
    left = {file.name: file.read_bytes() for file in folder.iterdir() if file.exists()}
    go_offline()
    for arguments in ([], ["--offline"], ["--no-mend"]):
        code, out, err = run("models", "verify", *arguments)
        assert (code, out) == (4, f"owner/name\tdamaged\t{name}\n")
        assert "owner/name is damaged" in err and err.count("\n") == 1
    assert world.hub.requests == []
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.exists()} == left


def test_a_hub_that_fails_leaves_what_was_there(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    damage(folder, "a changed byte")
    left = (folder / "model.safetensors").read_bytes()
    world.hub.fail_with(503)
    code, out, err = run("models", "verify")
    assert code == 4 and "damaged" in out and "503" in err
    assert (folder / "model.safetensors").read_bytes() == left


def test_a_shard_that_is_gone_is_fetched_and_others_are_not(run: Run, world: World) -> None:
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    files = {"model.safetensors.index.json": json.dumps(index)}
    served = world.serve("owner/name", **files, **{f"model-{n}.safetensors": f"{n}" for n in "12"})
    (served / "model.safetensors").unlink()
    folder = world.put("owner/name")
    (folder / "model-2.safetensors").resolve().unlink()
    (folder / "model-2.safetensors").unlink()
    code, out, _ = run("models", "verify")
    assert (code, out) == (0, "owner/name\tmended\tmodel-2.safetensors\n")
    assert (folder / "model-2.safetensors").read_text() == "2"


def test_a_model_whose_weights_nobody_fetched_is_not_damaged(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    (folder / "model.safetensors").unlink()
    code, out, err = run("models", "verify")
    assert code == 0 and out.startswith("owner/name\tok\t")
    assert "vlm models pull owner/name" in err and world.hub.requests == []


def test_a_commit_that_is_not_on_any_branch_is_mended_as_that_commit(
    run: Run, world: World
) -> None:
    folder = world.put("owner/name")
    world.serve("owner/name", {"main": OTHER}, extra__txt="new")
    damage(folder, "a changed byte")
    code, out, _ = run("models", "verify", "--json")
    record = json.loads(out)
    assert (code, record["state"], record["revision"]) == (0, "mended", MAIN)
    assert record["damaged"] == ["model.safetensors"]
    assert (world.place("owner/name") / "refs" / "main").read_text() == MAIN


def test_files_that_are_no_links_are_held_against_the_list_of_the_commit(
    run: Run, world: World
) -> None:
    """As where links cannot be made: on some file systems, and on Windows."""
    folder = world.put("owner/name")
    for file in folder.iterdir():
        blob = file.resolve()
        file.unlink()
        blob.rename(file)
    assert run("models", "verify")[0] == 0
    spoil(folder / "model.safetensors")
    code, out, _ = run("models", "verify")
    assert (code, out) == (0, "owner/name\tmended\tmodel.safetensors\n")
    assert run("models", "verify")[1].startswith("owner/name\tok")


def test_a_damaged_model_answers_again_after_it_is_mended(
    run: Run, world: World, tiny: Callable[[str], Path], picture: Path
) -> None:
    world.hub.add("acme/tiny-vlm", tiny("smolvlm"))
    ask = ("ask", picture, "what?", "-m", "acme/tiny-vlm", "-n", 4)
    code, said, _ = run(*ask)
    assert code == 0
    folder = world.place("acme/tiny-vlm") / "snapshots" / MAIN
    os.truncate((folder / "model.safetensors").resolve(), 1000)
    assert run(*ask)[0] == 4
    assert run("models", "verify", "acme/tiny-vlm")[0] == 0
    assert run(*ask)[1] == said


def test_what_two_revisions_share_is_fetched_once(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    world.hub.add(
        "owner/name", world.hub.repos["owner/name"].commits[MAIN], revisions={"v2": OTHER}
    )
    world.put("owner/name", "v2")
    damage(folder, "a changed byte")
    code, out, _ = run("models", "verify")
    assert (code, world.hub.fetched()) == (0, ["model.safetensors"])
    assert out == "".join(
        f"{name}\tmended\tmodel.safetensors\n" for name in ("owner/name", "owner/name@v2")
    )


@pytest.mark.parametrize("name", ["no/such", "owner/name@v9"])
def test_a_model_that_is_not_here_is_exit_4(run: Run, world: World, name: str) -> None:
    world.put("owner/name")
    code, out, err = run("models", "verify", name)
    assert (code, out, err.count("\n")) == (4, "", 1)


def test_a_broken_off_download_says_how_to_go_on(run: Run, world: World) -> None:
    blobs = world.place("owner/part") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'a' * 64}.incomplete").write_bytes(bytes(5))
    code, _, err = run("models", "verify", "owner/part")
    assert code == 4 and "vlm models pull owner/part" in err
    assert run("models", "verify")[0] == 0


def test_what_is_not_in_the_cache_cannot_be_checked(run: Run, world: World) -> None:
    code, out, err = run("models", "verify", "builtin")
    assert (code, out) == (2, "") and "a part of vlm" in err
    code, out, err = run("models", "verify", "owner/nothing")
    assert (code, out) == (4, "") and "owner/nothing is not in the cache" in err
