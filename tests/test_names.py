import subprocess
import sys
from pathlib import Path

import pytest

from vlmcli.errors import ModelError, UsageError
from vlmcli.models import names


def cache(folder: Path, *names: str) -> Path:
    for name in names:
        snapshot = folder / f"models--{name.replace('/', '--')}" / "snapshots" / ("a" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
    return folder


def test_an_alias_stands_for_a_hub_name_and_any_other_name_for_itself():
    assert names.resolve_alias("smolvlm") == "HuggingFaceTB/SmolVLM-500M-Instruct"
    assert names.resolve_alias("owner/name") == "owner/name"


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "~/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"HF_HOME": "~/h", "XDG_CACHE_HOME": "/x"}, "~/h/hub"),
        ({"HF_HOME": ""}, "hub"),
        ({"XDG_CACHE_HOME": ""}, "huggingface/hub"),
        ({"HUGGINGFACE_HUB_CACHE": "/legacy", "HF_HOME": "/h"}, "/legacy"),
        ({"HF_HUB_CACHE": "$HOME/c", "HUGGINGFACE_HUB_CACHE": "/legacy", "HF_HOME": "/h"}, "~/c"),
    ],
)
def test_the_cache_is_where_huggingface_hub_has_it(environment, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert names.cache_folder(environment) == Path(folder.replace("~", str(tmp_path)))
    code = "from huggingface_hub.constants import HF_HUB_CACHE as c; print(c)"
    theirs = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(theirs.stdout.strip()) == names.cache_folder(environment)


def test_cached_names_are_those_that_huggingface_hub_finds(tmp_path):
    from huggingface_hub import scan_cache_dir

    cache(tmp_path, "owner/one", "some-one/two.b-c")
    (tmp_path / "models--owner--empty" / "snapshots").mkdir(parents=True)
    (tmp_path / "models--owner--refused" / "refs").mkdir(parents=True)
    (tmp_path / "datasets--owner--data" / "snapshots" / "a").mkdir(parents=True)
    scanned = scan_cache_dir(tmp_path).repos
    found = sorted(r.repo_id for r in scanned if r.repo_type == "model" and r.nb_files)
    assert names.cached_names({"HF_HUB_CACHE": str(tmp_path)}) == found
    assert found == ["owner/one", "some-one/two.b-c"]


def test_there_are_no_cached_names_without_a_cache(tmp_path):
    assert names.cached_names({"HF_HUB_CACHE": str(tmp_path / "none")}) == []


def test_completions_are_aliases_special_names_and_cached_models(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(cache(tmp_path, "smolfork/vlm", "owner/x")))
    assert names.completions("smol")[-1] == "smolfork/vlm"
    assert "smolvlm" in names.completions("smol")
    assert names.completions("au") == ["auto"] and names.completions("bu") == ["builtin"]
    assert names.completions("owner/") == ["owner/x"]


def test_completion_imports_nothing_heavy():
    code = (
        "import sys; before = set(sys.modules); import vlmcli.models.names;"
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
    assert names.hub_name(typed, revision) == meant


def test_two_different_revisions_are_a_usage_error():
    with pytest.raises(UsageError, match=r"owner/name@v1 .* v2"):
        names.hub_name("owner/name@v1", "v2")


@pytest.mark.parametrize(
    "typed", ["a/b/c", "owner/", "/", "word", "a b/c", "", "@v1", "https://x.y/a"]
)
def test_a_malformed_name_is_told_the_accepted_forms(typed):
    with pytest.raises(ModelError, match=r"owner/name\[@revision\]"):
        names.hub_name(typed)


@pytest.mark.parametrize("revision", ["../../secret", "a..b", "-x", "a b", "/etc"])
def test_a_revision_cannot_leave_the_cache(revision):
    with pytest.raises(ModelError, match="not a branch"):
        names.hub_name("owner/name", revision)


def test_a_misspelt_alias_is_told_the_nearest(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="did you mean smolvlm"):
        names.hub_name("smolvml")
