"""`vlm models ls`: what is in the shared cache, whoever put it there."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import models_here
import pytest
import terminal
from conftest import Run
from hub_server import MAIN
from huggingface_hub import scan_cache_dir
from models_here import NUMBERS, OTHER, World, last_used

from vlmcli import memory
from vlmcli.memory import Memory
from vlmcli.models import cached, catalog

SMOLVLM = catalog.RECOMMENDED.name
VLM = [sys.executable, "-m", "vlmcli"]
GIB = 1 << 30


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with models_here.world(tmp_path, monkeypatch) as made:
        yield made


def listed(run: Run, *arguments: str) -> dict[str, dict[str, object]]:
    """What `ls --json` says, by name."""
    code, out, err = run("models", "ls", "--json", *arguments)
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    return {record["name"]: record for record in records}


def test_an_empty_cache_is_said_on_stderr(run: Run, world: World) -> None:
    code, out, err = run("models", "ls")
    assert (code, out) == (0, "") and "vlm models pull" in err
    assert run("models", "ls", "--json") == (0, "", "")


def test_models_alone_is_ls_and_takes_its_options(run: Run, world: World) -> None:
    world.put("owner/name")
    assert run("models") == run("models", "ls")
    assert run("models", "-a") == run("models", "ls", "--recommended")


def test_a_model_of_another_program_is_a_line_with_its_name_first(run: Run, world: World) -> None:
    folder = world.put("owner/name")
    last_used(folder, days_ago=3)
    code, out, err = run("models", "ls")
    name, alias, kind, size, used, revision, here, default = out.rstrip("\n").split("\t")
    assert (code, err) == (0, "") and out.count("\n") == 1
    assert (name, alias, kind) == ("owner/name", "", "smolvlm")
    assert (used, revision, here, default) == ("3 days ago", MAIN[:7], "fits", "")
    assert size == "2.3 kB"
    assert world.hub.requests == []


def test_a_look_is_no_use(run: Run, world: World) -> None:
    last_used(world.put("owner/name"), days_ago=3)
    for _ in range(2):
        run("models", "ls")
        run("models", "verify")
        assert "\t3 days ago\t" in run("models", "ls")[1]


def test_json_gives_sizes_in_bytes_times_in_iso_and_the_whole_commit(
    run: Run, world: World
) -> None:
    folder = world.put("owner/name")
    last_used(folder, days_ago=2)
    record = listed(run)["owner/name"]
    assert record["size_bytes"] == sum(file.stat().st_size for file in folder.iterdir())
    used = datetime.fromisoformat(str(record["last_used"]))
    assert abs(datetime.now(UTC) - used - timedelta(days=2)) < timedelta(minutes=1)
    assert (record["revision"], record["branches"]) == (MAIN, ["main"])
    assert (record["state"], record["folder"]) == ("whole", str(folder))
    assert (record["parameters"], record["dtypes"]) == (NUMBERS, ["bfloat16"])
    assert record["answers_about_pictures"] is True and record["recommended"] is False


def test_ls_and_huggingface_hub_agree_on_names_sizes_commits_and_last_use(
    run: Run, world: World
) -> None:
    for name in ("owner/one", "other/two"):
        last_used(world.put(name), days_ago=len(name))
    world.serve("owner/one", {"v2": OTHER}, extra__txt="more")
    world.put("owner/one", "v2")
    theirs = {
        (repo.repo_id, revision.commit_hash, revision.size_on_disk)
        for repo in scan_cache_dir(world.cache).repos
        for revision in repo.revisions
    }
    records = listed(run)
    ours = {(name.partition("@")[0], r["revision"], r["size_bytes"]) for name, r in records.items()}
    assert ours == theirs and len(ours) == 3
    assert records.keys() == {"other/two", "owner/one", "owner/one@v2"}
    (two,) = (r for r in scan_cache_dir(world.cache).repos if r.repo_id == "other/two")
    used = datetime.fromisoformat(str(records["other/two"]["last_used"])).timestamp()
    assert abs(used - two.last_accessed) < 1


def test_hf_cache_ls_lists_the_same_models(run: Run, world: World) -> None:
    world.put("owner/one")
    world.put("other/two")
    hf = Path(sys.executable).with_name("hf")
    done = subprocess.run([hf, "cache", "ls", "-q"], capture_output=True, text=True, check=True)
    theirs = {line.removeprefix("model/") for line in done.stdout.split()}
    assert theirs == listed(run).keys() == {"owner/one", "other/two"}


def test_a_name_without_an_owner_and_data_sets_are_told_apart(run: Run, world: World) -> None:
    folder = world.cache / "models--gpt2" / "snapshots" / MAIN
    models_here.write_model(folder)
    (world.cache / "datasets--owner--data" / "snapshots" / MAIN).mkdir(parents=True)
    assert [*listed(run)] == [f"gpt2@{MAIN[:7]}"]


@pytest.mark.parametrize(
    ("config", "answers"),
    [
        ({"model_type": "bert", "architectures": ["BertForMaskedLM"]}, False),
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, False),
        ({"model_type": "clip", "architectures": ["CLIPModel"], "vision_config": {}}, False),
        ({"model_type": "new", "vision_config": {}}, None),
    ],
)
def test_a_model_that_cannot_answer_about_pictures_is_marked(
    run: Run, world: World, config: dict[str, object], answers: bool | None
) -> None:
    world.put("owner/name", config__json=json.dumps(config))
    assert listed(run)["owner/name"]["answers_about_pictures"] is answers
    assert ("no VLM" in run("models")[1]) == (answers is False)


def test_every_family_that_vlm_runs_is_seen_as_one_that_answers() -> None:
    """The rule reads config.json alone; here it is held against transformers' own list."""
    import tiny_models
    from transformers.models.auto import modeling_auto as auto

    from vlmcli.models import facts

    classes = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    for family in tiny_models.FAMILIES.values():
        config = {"architectures": [classes[family.config["model_type"]]], **family.config}
        assert facts.answers_about_pictures(config), family.config["model_type"]


def test_every_type_that_transformers_asks_about_pictures_is_seen_as_one_that_answers() -> None:
    from transformers.models.auto import modeling_auto as auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from vlmcli.models import facts

    def told(kind: str, classes: str | tuple[str, ...]) -> bool | None:
        architectures = [classes] if isinstance(classes, str) else list(classes)
        return facts.answers_about_pictures(
            {**CONFIG_MAPPING[kind]().to_dict(), "architectures": architectures}
        )

    sees = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
    blind = {kind for kind, classes in sees.items() if not told(kind, classes)}
    # Proteins, robots, and a text model that is listed for its name.
    assert blind <= {"evolla", "pi0", "mistral4"}
    texts = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    for kind in ("llama", "qwen3", "gemma2", "mistral", "gpt2", "phi3"):
        assert told(kind, texts[kind]) is False
    for kind, name in (("clip", "CLIPModel"), ("siglip", "SiglipModel")):
        assert told(kind, name) is False
    assert told("vit", "ViTForImageClassification") is False


@pytest.mark.parametrize(
    ("free", "here"), [(2 * GIB, "fits"), (1_000_000_000, "tight"), (1000, "too big")]
)
def test_whether_it_fits_follows_the_rule_of_the_recommended_table(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch, free: int, here: str
) -> None:
    monkeypatch.setattr(memory, "here", lambda: Memory("main memory", free, 2))
    world.put("owner/name")
    record = listed(run)["owner/name"]
    assert record["memory_bytes"] == catalog.memory_for(2 * NUMBERS)
    assert f"\t{here}\t" in run("models")[1]


def test_a_broken_off_download_is_a_line_of_its_own(run: Run, world: World) -> None:
    blobs = world.place("owner/name") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'a' * 64}.incomplete").write_bytes(bytes(5_000_000))
    record = listed(run)["owner/name"]
    assert (record["state"], record["size_bytes"], record["revision"]) == (
        "partial",
        5_000_000,
        None,
    )
    assert "5.0 MB" in run("models")[1] and "partial" in run("models")[1]


def test_what_is_left_of_an_update_counts_with_the_model(run: Run, world: World) -> None:
    world.put("owner/name")
    (world.place("owner/name") / "blobs" / f"{'a' * 64}.incomplete").write_bytes(bytes(7))
    record = listed(run)["owner/name"]
    assert (record["state"], record["unfinished_bytes"]) == ("whole", 7)


@pytest.mark.parametrize(
    ("lost", "state"),
    [("model.safetensors", "partial"), ("tokenizer.json", "partial"), ("config.json", "partial")],
)
def test_a_copy_that_lacks_a_file_is_partial(run: Run, world: World, lost: str, state: str) -> None:
    folder = world.put("owner/name")
    (folder / lost).resolve().unlink()
    assert listed(run)["owner/name"]["state"] == "damaged"  # a link to nothing
    (folder / lost).unlink()
    assert listed(run)["owner/name"]["state"] == state


def test_aliases_are_shown_the_users_own_first(run: Run, world: World) -> None:
    world.put(SMOLVLM)
    run("models", "alias", "mine", SMOLVLM)
    assert listed(run)[SMOLVLM]["aliases"] == ["mine", "smolvlm", "smolvlm-500m"]
    assert run("models", "ls")[1].split("\t")[1] == "mine"


def starred(run: Run) -> list[str]:
    return [name for name, record in listed(run).items() if record["default"]]


def test_the_default_is_marked(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("owner/name")
    assert starred(run) == []
    world.put(SMOLVLM)
    assert starred(run) == [SMOLVLM]  # which is what auto takes
    run("models", "default", "owner/name")
    assert starred(run) == ["owner/name"]
    lines = run("models", "ls")[1].splitlines()
    assert [line.split("\t")[0] for line in lines if line.endswith("\t*")] == ["owner/name"]
    monkeypatch.setenv("VLM_MODEL", "smolvlm")
    assert starred(run) == [SMOLVLM]


def test_auto_takes_no_model_that_does_not_fit(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(SMOLVLM)
    monkeypatch.setattr(memory, "here", lambda: Memory("main memory", 1000, 2))
    assert starred(run) == []


def test_recommended_models_are_listed_with_what_they_take_and_are_good_at(
    run: Run, world: World
) -> None:
    world.put(SMOLVLM)
    records = listed(run, "--recommended")
    assert {*records} == {row.name for row in catalog.MODELS}
    assert records[SMOLVLM]["state"] == "whole"
    for row in catalog.MODELS:
        record = records[row.name]
        assert (record["licence"], record["good_at"]) == (row.licence, row.good_at)
        assert (record["state"] == "not cached") == (row.name != SMOLVLM)
    code, out, _ = run("models", "ls", "-a")
    assert code == 0 and all(f"{row.good_at}\t" in out for row in catalog.MODELS)
    assert world.hub.requests == []


def test_the_built_in_model_is_a_line_where_it_ships(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vlmcli.models import cached

    monkeypatch.setattr(cached, "BUILTIN_FOLDER", models_here.write_model(world.root / "inside"))
    record = listed(run)["builtin"]
    assert (record["state"], record["default"]) == ("whole", True)
    assert record["size_bytes"] == sum(f.stat().st_size for f in (world.root / "inside").iterdir())


def test_the_built_in_model_is_looked_for_where_the_package_has_it() -> None:
    from vlmcli import builtin, hub

    place = Path(str(builtin.__file__)).parent
    assert cached.BUILTIN_FOLDER == hub.BUILTIN_FOLDER == place


@pytest.mark.parametrize("locked", ["blobs", "snapshots"])
def test_a_model_that_must_not_be_read_hides_no_other(world: World, locked: str) -> None:
    world.put("owner/locked")
    world.put("owner/name")
    place = world.place("owner/locked") / locked
    place.chmod(0o600)  # may be listed, and not be gone into
    # Root may do everything, unless it gives that up.
    may = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    rights = may if os.geteuid() == 0 else []
    done = subprocess.run(
        [*rights, sys.executable, "-m", "vlmcli", "models", "ls"], capture_output=True, text=True
    )
    place.chmod(0o700)
    assert (done.returncode, done.stderr) == (0, "")
    assert "owner/name\t" in done.stdout


def test_ls_imports_nothing_that_takes_long(world: World) -> None:
    world.put("owner/name")
    script = (
        "import sys; from vlmcli.app import main; main(['models']);"
        "sys.exit(' '.join({'torch', 'transformers', 'huggingface_hub', 'httpx2', 'numpy', 'PIL'}"
        " & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "") and "owner/name" in done.stdout


@pytest.mark.parametrize("columns", [80, 50, 30])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(world: World, columns: int) -> None:
    last_used(world.put(SMOLVLM), days_ago=3)
    shown = terminal.spawn([*VLM, "models", "ls"], columns=columns)
    assert shown.wait(20) == 0
    lines = [line.rstrip() for line in terminal.screen(shown.text, 500, 24)]
    assert f"* {SMOLVLM}" in "\n".join(lines)
    said = " ".join(" ".join(lines).split())
    assert all(cell in said for cell in ("2.3 kB", "3 days ago", MAIN[:7], "fits"))
    *rows, note = lines
    assert "* answers where no -m is given" in note
    assert all(len(line) <= max(columns, len(f"* {SMOLVLM}")) for line in rows)


def test_a_terminal_escape_in_a_name_does_not_reach_the_terminal(run: Run, world: World) -> None:
    models_here.write_model(world.cache / "models--owner--\x1b[31mred" / "snapshots" / MAIN)
    assert "\x1b" not in run("models")[1]


@pytest.mark.parametrize(
    ("free_bytes", "driver"),
    [(None, {}), (8 * GIB, {"nvmlInit_v2": 0}), (None, {"nvmlInit_v2": 9})],
)
def test_memory_is_that_of_the_card_where_torch_can_use_one(
    monkeypatch: pytest.MonkeyPatch, free_bytes: int | None, driver: dict[str, int]
) -> None:
    def load(_: str) -> SimpleNamespace:
        if not driver:
            raise OSError

        def info(_card: object, found: object) -> int:
            found._obj.free = free_bytes  # type: ignore[attr-defined]
            return 0

        return SimpleNamespace(
            nvmlInit_v2=lambda: driver["nvmlInit_v2"],
            nvmlDeviceGetHandleByIndex_v2=lambda *_: 0,
            nvmlDeviceGetMemoryInfo=info,
        )

    monkeypatch.setattr(memory.ctypes, "CDLL", load)
    monkeypatch.setattr(memory.metadata, "version", lambda _: "2.13.0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = memory.here()
    assert (found.place == "the GPU") == (free_bytes is not None)
    assert free_bytes is None or found.free_bytes == free_bytes
    monkeypatch.setattr(memory.metadata, "version", lambda _: "2.13.0+cpu")
    assert memory.here().place == "main memory"


def test_tiny_models_show_their_real_type(
    run: Run, world: World, tiny: Callable[[str], Path]
) -> None:
    world.hub.add("acme/tiny-vlm", tiny("smolvlm"))
    world.put("acme/tiny-vlm")
    record = listed(run)["acme/tiny-vlm"]
    assert (record["model_type"], record["state"]) == ("smolvlm", "whole")
    assert isinstance(record["parameters"], int) and record["parameters"] > 10_000
