import subprocess
import sys
from pathlib import Path

import pytest

from vlmcli import catalog
from vlmcli.errors import ModelError, UsageError


def cache(folder: Path, *names: str) -> Path:
    for name in names:
        snapshot = folder / f"models--{name.replace('/', '--')}" / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
    return folder


def test_an_alias_stands_for_a_hub_name_and_any_other_name_for_itself():
    assert catalog.resolve_alias("smolvlm") == "HuggingFaceTB/SmolVLM-500M-Instruct"
    assert catalog.resolve_alias("owner/name") == "owner/name"


def test_no_two_rows_share_an_alias_or_a_name():
    aliases = [alias for row in catalog.MODELS for alias in row.aliases]
    names = [row.name for row in catalog.MODELS]
    assert len(set(aliases)) == len(aliases) and len(set(names)) == len(names)
    assert not {catalog.AUTO, catalog.BUILTIN} & set(aliases)


def test_the_recommended_download_asks_for_no_licence_click():
    assert catalog.RECOMMENDED in catalog.MODELS and not catalog.RECOMMENDED.gated


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "~/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HOME": "~/h", "XDG_CACHE_HOME": "/x"}, "~/h/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/legacy", "HF_HOME": "/h"}, "/legacy"),
        ({"HF_HUB_CACHE": "$HOME/c", "HUGGINGFACE_HUB_CACHE": "/legacy", "HF_HOME": "/h"}, "~/c"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(environment, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert catalog.cache_folder(environment) == Path(folder.replace("~", str(tmp_path)))
    code = "from huggingface_hub.constants import HF_HUB_CACHE as c; print(c)"
    theirs = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(theirs.stdout.strip()) == catalog.cache_folder(environment)


def test_cached_names_are_those_that_huggingface_hub_finds(tmp_path):
    from huggingface_hub import scan_cache_dir

    cache(tmp_path, "owner/one", "some-one/two.b-c")
    (tmp_path / "models--owner--empty" / "snapshots").mkdir(parents=True)
    (tmp_path / "models--owner--refused" / "refs").mkdir(parents=True)
    (tmp_path / "datasets--owner--data" / "snapshots" / "a").mkdir(parents=True)
    scanned = scan_cache_dir(tmp_path).repos
    found = sorted(r.repo_id for r in scanned if r.repo_type == "model" and r.nb_files)
    assert catalog.cached_names({"HF_HUB_CACHE": str(tmp_path)}) == found
    assert found == ["owner/one", "some-one/two.b-c"]


def test_there_are_no_cached_names_without_a_cache(tmp_path):
    assert catalog.cached_names({"HF_HUB_CACHE": str(tmp_path / "none")}) == []


def test_completions_are_aliases_special_names_and_cached_models(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(cache(tmp_path, "smolfork/vlm", "owner/x")))
    assert catalog.completions("smol")[-1] == "smolfork/vlm"
    assert "smolvlm" in catalog.completions("smol")
    assert catalog.completions("au") == ["auto"] and catalog.completions("bu") == ["builtin"]
    assert catalog.completions("owner/") == ["owner/x"]


def test_completion_imports_nothing_heavy():
    code = (
        "import sys; before = set(sys.modules); import vlmcli.catalog;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*new - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["vlmcli"]


@pytest.mark.parametrize(
    ("typed", "revision", "meant"),
    [
        ("owner/name", None, ("owner/name", "main")),
        ("owner/name@v1", None, ("owner/name", "v1")),
        ("owner/name@refs/pr/3", "refs/pr/3", ("owner/name", "refs/pr/3")),
        ("owner/name", "v2", ("owner/name", "v2")),
        ("smolvlm@v1", None, ("HuggingFaceTB/SmolVLM-500M-Instruct", "v1")),
    ],
)
def test_a_name_means_a_repo_and_a_revision(typed, revision, meant):
    assert catalog.hub_name(typed, revision) == meant


def test_two_different_revisions_are_a_usage_error():
    with pytest.raises(UsageError, match=r"owner/name@v1 .* v2"):
        catalog.hub_name("owner/name@v1", "v2")


@pytest.mark.parametrize(
    "typed", ["a/b/c", "owner/", "/", "word", "a b/c", "", "@v1", "https://x.y/a"]
)
def test_a_malformed_name_is_told_the_accepted_forms(typed):
    with pytest.raises(ModelError, match=r"owner/name\[@revision\]"):
        catalog.hub_name(typed)


@pytest.mark.parametrize("revision", ["../../secret", "a..b", "-x", "a b", "/etc"])
def test_a_revision_cannot_leave_the_cache(revision):
    with pytest.raises(ModelError, match="not a branch"):
        catalog.hub_name("owner/name", revision)


def test_a_misspelt_alias_is_told_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="did you mean smolvlm"):
        catalog.hub_name("smolvml")


@pytest.mark.parametrize(
    ("files", "weights"),
    [
        (["model.safetensors", "model-00001-of-00001.safetensors"], ["model.safetensors"]),
        (["a-1.safetensors", "a-2.safetensors", "consolidated.safetensors"], "a-1 a-2"),
        (["consolidated-00001-of-00001.safetensors"], ["consolidated-00001-of-00001.safetensors"]),
        (["model.fp16.safetensors", "model.fp16-1-of-2.safetensors", "m.safetensors"], "m"),
        (["pytorch_model.bin", "model.gguf", "tf_model.h5", "checkpoint-9/model.safetensors"], []),
    ],
)
def test_one_set_of_weights_is_wanted(files, weights):
    if isinstance(weights, str):
        weights = [f"{stem}.safetensors" for stem in weights.split()]
    assert catalog.wanted_files(files) == weights


def test_texts_at_the_top_are_wanted_and_code_is_not():
    wanted = ["config.json", "merges.txt", "tokenizer.model", "chat_template.jinja", "tekken.json"]
    template = "additional_chat_templates/tool.jinja"
    other = ["modeling.py", "README.md", "onnx/config.json", "original/params.json", "x.onnx"]
    assert catalog.wanted_files([*wanted, *other, template]) == [*wanted, template]


def test_weights_are_there_when_every_shard_of_the_index_is(tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    (tmp_path / "1.safetensors").touch()
    assert not catalog.holds_weights(tmp_path)
    (tmp_path / "2.safetensors").touch()
    assert catalog.holds_weights(tmp_path)
    index.write_text('{"weight_map": {"a"')
    assert not catalog.holds_weights(tmp_path)
    index.unlink()
    assert catalog.holds_weights(tmp_path)
