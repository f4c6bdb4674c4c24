"""`vlm models pull` and `vlm models rm`: into the shared cache, and out of it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import models_here
import pytest
import terminal
from conftest import Run
from hub_server import MAIN
from huggingface_hub import constants, scan_cache_dir
from models_here import OTHER, World

from vlmcli.models import catalog

SMOLVLM = catalog.RECOMMENDED.name
VLM = [sys.executable, "-m", "vlmcli"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with models_here.world(tmp_path, monkeypatch) as made:
        yield made


def cached(world: World) -> set[str]:
    """The commits in the cache, by huggingface_hub's own count."""
    return {
        f"{repo.repo_id}@{revision.commit_hash[0]}"
        for repo in scan_cache_dir(world.cache).repos
        for revision in repo.revisions
    }


# pull


def test_pull_prints_name_commit_and_folder_and_asks_nothing_the_second_time(
    run: Run, world: World
) -> None:
    world.serve("owner/name")
    code, out, err = run("models", "pull", "owner/name")
    name, commit, folder = out.rstrip("\n").split("\t")
    assert (code, err) == (0, "") and (name, commit) == ("owner/name", MAIN)
    assert (Path(folder) / "model.safetensors").is_file() and cached(world) == {"owner/name@1"}
    world.hub.requests.clear()
    code, again, err = run("models", "pull", "owner/name")
    assert (code, again) == (0, out) and "here already" in err
    assert world.hub.requests == []


def test_a_model_of_another_program_need_not_be_pulled(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    code, out, err = run("models", "pull", "owner/name", "--json")
    assert (code, err) == (0, "")
    expected = {"name": "owner/name", "revision": MAIN, "folder": str(folder), "downloaded": False}
    assert json.loads(out) == expected and world.hub.requests == []


def test_a_short_name_and_auto_are_pulled_as_what_they_mean(run: Run, world: World) -> None:
    world.serve(SMOLVLM)
    assert run("models", "pull", "smolvlm")[1].startswith(f"{SMOLVLM}\t")
    assert run("models", "pull", "auto")[1].startswith(f"{SMOLVLM}\t")


def test_a_revision_can_be_pulled(run: Run, world: World) -> None:
    world.serve("owner/name", {"main": MAIN})
    world.serve("owner/name", {"v2": OTHER}, extra__txt="more")
    assert OTHER in run("models", "pull", "owner/name", "--revision", "v2")[1]
    assert OTHER in run("models", "pull", "owner/name@v2")[1]
    assert cached(world) == {"owner/name@2"}


def test_update_fetches_what_is_new_and_keeps_the_old(run: Run, world: World) -> None:
    world.serve("owner/name")
    run("models", "pull", "owner/name")
    code, out, err = run("models", "pull", "owner/name", "--update")
    assert code == 0 and MAIN in out and "up to date" in err
    world.serve("owner/name", {"main": OTHER}, extra__txt="more")
    assert MAIN in run("models", "pull", "owner/name")[1]  # nobody asked whether it moved
    world.hub.requests.clear()
    code, out, err = run("models", "pull", "owner/name", "--update")
    assert code == 0 and OTHER in out and MAIN[:7] in err
    assert world.hub.fetched() == ["extra.txt"]
    assert cached(world) == {"owner/name@1", "owner/name@2"}
    assert [line.split("\t")[0] for line in run("models")[1].splitlines()] == [
        "owner/name",
        f"owner/name@{MAIN[:7]}",
    ]


def test_pickles_and_code_come_only_when_allowed(run: Run, world: World) -> None:
    folder = world.serve("owner/name", pytorch_model__bin="pickle", modeling__py="code")
    (folder / "model.safetensors").unlink()
    code, out, err = run("models", "pull", "owner/name")
    assert (code, out) == (4, "") and "--allow-pickle" in err
    code, out, _ = run("models", "pull", "owner/name", "--allow-pickle", "--trust-remote-code")
    fetched = {file.name for file in Path(out.rstrip("\n").split("\t")[2]).iterdir()}
    assert code == 0 and {"pytorch_model.bin", "modeling.py"} <= fetched


def test_one_that_cannot_be_had_does_not_keep_the_others_away(run: Run, world: World) -> None:
    world.serve("owner/name")
    code, out, err = run("models", "pull", "no/such", "owner/name")
    assert code == 4 and out.startswith("owner/name\t") and "no/such" in err


@pytest.mark.parametrize("arguments", [[], ["--update"]])
def test_offline_and_not_cached_is_exit_4_and_no_request(
    run: Run, world: World, arguments: list[str]
) -> None:
    world.serve("owner/name")
    code, out, err = run("models", "pull", "owner/name", "--offline", *arguments)
    assert (code, out, err.count("\n")) == (4, "", 1) and world.hub.requests == []


def test_the_commit_that_ls_prints_is_a_name_that_needs_no_hub(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    world.serve("owner/name", {"main": OTHER})
    world.put("owner/name")
    name = f"owner/name@{MAIN[:7]}"
    assert name in run("models", "ls")[1]
    code, out, _ = run("models", "pull", name, "--offline")
    assert (code, out) == (0, f"owner/name\t{MAIN}\t{folder}\n")
    code, _, err = run("models", "pull", "owner/name@3333333", "--offline")
    assert code == 4 and "`vlm models pull owner/name@3333333` fetches it" in err
    assert world.hub.requests == []


def test_an_update_where_a_variable_forbids_to_ask(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("owner/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _, err = run("models", "pull", "--update", "owner/name")
    assert (code, err) == (4, "vlm: owner/name: HF_HUB_OFFLINE forbids to ask the Hub\n")


def test_what_another_process_has_got_meanwhile_is_counted_once(world: World) -> None:
    folder = world.serve("owner/name")
    (folder / "model.safetensors").write_bytes(models_here.weights(2_000_000))
    world.hub.bytes_per_s = 1_000_000
    pull = [*VLM, "models", "pull", "owner/name"]
    first = subprocess.Popen(pull, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not sum(part.stat().st_size for part in world.cache.rglob("*.incomplete")) > 1_000_000:
        assert first.poll() is None
        time.sleep(0.05)
    second = subprocess.run(pull, capture_output=True, text=True, check=True)
    first.communicate()
    assert "going on" in second.stderr and "waiting" in second.stderr
    assert second.stderr.splitlines()[-1] == "vlm: downloading owner/name: 100 % of 4.0 MB"


def test_the_same_bytes_under_two_names_are_counted_once(world: World) -> None:
    folder = world.serve("owner/name")
    (folder / "model.safetensors").unlink()
    for number in "12":
        (folder / f"model-{number}.safetensors").write_bytes(models_here.weights(1_000_000))
    world.hub.bytes_per_s = 800_000
    pull = [*VLM, "models", "pull", "owner/name"]
    done = subprocess.run(pull, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "vlm: downloading owner/name: 100 % of 2.0 MB"


# rm


def test_a_removed_model_is_gone_and_its_bytes_are_told(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    kept = world.put("owner/other", extra__txt="x")
    size = sum(file.stat().st_size for file in folder.iterdir())
    code, out, err = run("models", "rm", "-y", "owner/name", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {"name": "owner/name", "revisions": [MAIN], "freed_bytes": size}
    assert cached(world) == {"owner/other@1"}  # which has the same commit
    assert not world.place("owner/name").exists() and (kept / "config.json").is_file()
    assert not (world.cache / ".locks" / world.place("owner/name").name).exists()


def test_one_revision_goes_and_what_the_other_needs_stays(run: Run, world: World) -> None:
    world.put("owner/name")
    world.serve("owner/name", {"v2": OTHER}, extra__txt="more")
    world.put("owner/name", "v2")
    code, out, _ = run("models", "rm", "-y", "owner/name@v2", "--json")
    assert (code, json.loads(out)["freed_bytes"]) == (0, len("more"))
    assert cached(world) == {"owner/name@1"}
    assert run("models", "verify")[0] == 0
    world.put("owner/name", "v2")
    assert run("models", "rm", "-y", f"owner/name@{MAIN[:9]}")[0] == 0
    assert cached(world) == {"owner/name@2"}


def test_a_model_named_in_two_ways_is_removed_and_counted_once(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    world.serve("owner/name", {"v2": OTHER})
    world.put("owner/name", "v2")
    size = sum(file.stat().st_size for file in folder.iterdir())  # which the two share
    code, out, _ = run("models", "rm", "-y", "--json", "owner/name@v2", "owner/name@main")
    expected = {"name": "owner/name", "revisions": [MAIN, OTHER], "freed_bytes": size}
    assert (code, json.loads(out)) == (0, expected)
    assert not world.place("owner/name").exists()
    assert not (world.cache / ".locks" / world.place("owner/name").name).exists()


def test_a_name_alone_means_all_revisions(run: Run, world: World) -> None:
    world.put("owner/name")
    world.serve("owner/name", {"v2": OTHER})
    world.put("owner/name", "v2")
    assert run("models", "rm", "-y", "owner/name")[0] == 0
    assert cached(world) == set()


def test_a_broken_off_download_and_a_damaged_model_can_be_removed(run: Run, world: World) -> None:
    blobs = world.place("owner/part") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'a' * 64}.incomplete").write_bytes(bytes(5000))
    (world.put("owner/name") / "config.json").resolve().unlink()
    code, out, err = run("models", "rm", "-y", "owner/part", "owner/name")
    assert (code, err) == (0, "") and "owner/part\t5.0 kB freed" in out
    assert run("models", "ls", "--json")[1] == ""
    assert not [*world.cache.glob("models--*")]


def test_one_revision_of_a_damaged_model_can_be_removed(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    world.serve("owner/name", {"v2": OTHER}, extra__txt="more")
    (world.put("owner/name", "v2") / "extra.txt").resolve().unlink()
    code, out, _ = run("models", "rm", "-y", "owner/name@v2")
    assert (code, out) == (0, "owner/name@v2\t0 B freed\n")
    assert cached(world) == {"owner/name@1"} and (folder / "config.json").is_file()


def test_a_model_on_another_disk_is_removed_there(run: Run, world: World, tmp_path: Path) -> None:
    world.put("owner/name")
    elsewhere = world.place("owner/name").rename(tmp_path / "elsewhere")
    world.place("owner/name").symlink_to(elsewhere)
    assert run("models", "rm", "-y", "owner/name")[0] == 0
    assert not elsewhere.exists() and not world.place("owner/name").is_symlink()


def test_without_a_terminal_and_without_y_nothing_is_removed(run: Run, world: World) -> None:
    world.put("owner/name")
    code, out, err = run("models", "rm", "owner/name")
    assert (code, out) == (2, "") and "-y" in err and cached(world) == {"owner/name@1"}


@pytest.mark.parametrize(("typed", "left"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1)])
def test_on_a_terminal_it_asks(world: World, typed: bytes, left: int) -> None:
    world.put("owner/name")
    asked = terminal.spawn([*VLM, "models", "rm", "owner/name"])
    asked.read_until("[y/N]: ", 20)
    assert "2.3 kB" in asked.text
    asked.send(typed)
    assert asked.wait(20) == 0
    assert len(cached(world)) == left and ("freed" in asked.text) == (left == 0)


def test_ctrl_c_at_the_question_removes_nothing(world: World) -> None:
    world.put("owner/name")
    asked = terminal.spawn([*VLM, "models", "rm", "owner/name"])
    asked.read_until("[y/N]: ", 20)
    time.sleep(0.5)  # readline does not hear a Ctrl-C in the moment in which it sets itself up
    asked.send(b"\x03")
    assert asked.wait(20) in (-2, 130) and cached(world) == {"owner/name@1"}


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("owner/naem", 4, "did you mean owner/name?"),
        ("owner/name@v9", 4, "no revision v9"),
        ("builtin", 2, "cannot be removed"),
        ("./folder", 2, "not in the cache"),
    ],
)
def test_what_cannot_be_removed_is_said_and_nothing_else_is_either(
    run: Run, world: World, name: str, code: int, says: str
) -> None:
    world.put("owner/name")
    found, out, err = run("models", "rm", "-y", "owner/name", name)
    assert (found, out, err.count("\n")) == (code, "", 1) and says in err
    assert cached(world) == {"owner/name@1"}


def test_a_cache_that_may_not_be_changed_is_one_line(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("owner/name")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/cache/file")

    monkeypatch.setattr("shutil.rmtree", refuse)
    code, out, err = run("models", "rm", "-y", "owner/name")
    assert (code, out) == (
        4,
        "",
    ) and err == "vlm: no access to /cache/file; HF_HOME moves the cache\n"


def test_ls_and_rm_need_no_hub(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("owner/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert run("models")[0] == run("models", "rm", "-y", "owner/name")[0] == 0
    assert world.hub.requests == []


def test_a_download_that_was_killed_is_listed_gone_on_with_or_removed(
    run: Run, world: World
) -> None:
    folder = world.serve("owner/name")
    (folder / "model.safetensors").write_bytes(models_here.weights(200_000))
    world.hub.bytes_per_s = 200_000
    killed = subprocess.Popen([*VLM, "models", "pull", "owner/name"])
    while not any(part.stat().st_size for part in world.cache.rglob("*.incomplete")):
        assert killed.poll() is None
        time.sleep(0.05)
    killed.kill()
    killed.wait()
    record = json.loads(run("models", "ls", "--json")[1])
    assert (record["name"], record["state"]) == ("owner/name", "partial")
    assert 0 < record["size_bytes"] < 400_000
    world.hub.bytes_per_s = 0
    assert run("models", "pull", "owner/name")[0] == 0
    assert json.loads(run("models", "ls", "--json")[1])["state"] == "whole"
    assert run("models", "verify")[1].startswith("owner/name\tok")


def test_a_model_that_cannot_see_is_refused_before_its_weights_come(run: Run, world: World) -> None:
    llama = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    world.serve("owner/blind", config__json=json.dumps(llama))
    code, out, err = run("models", "pull", "owner/blind")
    assert (code, out) == (4, "")
    assert "owner/blind is not a vision-language model: llama answers nothing about pictures" in err
    assert "model.safetensors" not in world.hub.fetched()
