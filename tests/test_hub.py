"""Models by name, against a Hub on loopback. What the environment decides runs as a process."""

import socket
import time
from pathlib import Path

import pytest
from conftest import model, point_at
from hub_server import MAIN, Hub
from huggingface_hub import constants

from vlmcli import hub
from vlmcli.errors import ModelError, UsageError
from vlmcli.models import catalog

OTHER = "2" * 40
PLENTY = 10**12
SMALL = catalog.RECOMMENDED.memory_bytes


def without_hub(name: str, **options: bool) -> ModelError:
    with pytest.raises(ModelError) as caught:
        hub.resolve(name, **options)
    assert "\n" not in str(caught.value)
    return caught.value


# folders


@pytest.mark.parametrize("spelling", ["{}", "{}/"])
def test_a_folder_with_a_config_is_a_model(spelling, tmp_path, cache, server):
    folder = model(tmp_path / "mine")
    ref = hub.resolve(spelling.format(folder))
    assert (ref.folder, ref.revision, ref.note) == (folder, None, "") and server.requests == []


def test_a_folder_wins_over_a_hub_name_and_an_alias(tmp_path, monkeypatch, cache, owned, server):
    monkeypatch.chdir(tmp_path)
    for name in ("owner/name", "smolvlm", "builtin"):
        model(tmp_path / name)
        assert hub.resolve(name).folder == Path(name)
    assert server.requests == []


@pytest.mark.parametrize("name", ["./no", "../no", "~/no", "/no/such", "no/", "~nobody/x"])
def test_a_path_that_is_not_there_is_no_such_folder(name, tmp_path, monkeypatch, cache, server):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert f"no such folder: {name}" in str(without_hub(name)) and server.requests == []


@pytest.mark.parametrize("name", ["./empty", "empty", "empty/", "."])
def test_a_folder_without_a_config_says_what_is_missing(name, tmp_path, monkeypatch, cache):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "config.json is missing" in str(without_hub(name))


def test_no_name_is_not_the_folder_that_we_are_in(tmp_path, monkeypatch, cache):
    monkeypatch.chdir(model(tmp_path / "here"))
    with pytest.raises(ModelError, match="no model is called ''"):
        hub.resolve("")


def test_a_folder_has_no_revision(tmp_path):
    with pytest.raises(UsageError, match="no revision v1"):
        hub.resolve(str(model(tmp_path / "m")), revision="v1")


def test_a_name_that_is_too_long_for_a_path_is_one_line(cache):
    assert "no model is called" in str(without_hub("x" * 5000))


def test_builtin_is_the_folder_that_ships_inside(tmp_path, cache):
    error = without_hub("builtin")
    assert error.message == "this build ships no built-in model" and error.hint
    folder = model(tmp_path / "builtin")
    assert hub.resolve("builtin") == hub.ModelRef("builtin", folder, None)


# downloads


def test_a_model_is_downloaded_once_and_then_costs_no_request(cache, owned, server):
    ref = hub.resolve("owner/name")
    assert (ref.name, ref.revision, ref.note) == ("owner/name", MAIN, "")
    assert (ref.folder / "model.safetensors").read_text() == "weights"
    assert ref.folder.is_relative_to(cache)
    server.requests.clear()
    assert hub.resolve("owner/name") == ref
    assert server.requests == []


def test_only_what_inference_needs_is_downloaded(cache, owned, server):
    model(owned, pytorch_model__bin="p", modeling__py="code", README__md="r", tf_model__h5="h")
    model(owned / "onnx")
    model(owned / "original")
    hub.resolve("owner/name")
    texts = ["README.md", "config.json"]  # the first of them for its licence
    assert server.fetched() == [*texts, "model.safetensors", "tokenizer.json"]


def test_a_file_with_brackets_in_its_name_is_downloaded(cache, owned, server):
    (owned / "vocab[1].json").write_text("{}")
    assert (hub.resolve("owner/name").folder / "vocab[1].json").is_file()


def test_pickles_are_refused_before_any_file_is_downloaded(cache, owned, server):
    (owned / "model.safetensors").rename(owned / "pytorch_model.bin")
    assert "only as pickles" in str(without_hub("owner/name"))
    assert server.fetched() == [] and len(server.requests) == 1


def test_a_repo_without_a_config_is_no_model(cache, owned, server):
    (owned / "config.json").unlink()
    assert "config.json is missing" in str(without_hub("owner/name"))
    assert server.fetched() == []


def test_a_repo_that_lacks_a_shard_is_not_whole(cache, owned):
    (owned / "model.safetensors").rename(owned / "1.safetensors")
    index = owned / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}')
    assert "not whole" in str(without_hub("owner/name"))


def test_a_branch_and_a_commit_are_different_revisions(cache, owned, server, tmp_path):
    newer = model(tmp_path / "newer", model__safetensors="newer")
    server.add("owner/name", newer, revisions={"v2": OTHER})
    for name in ("owner/name@v2", f"owner/name@{OTHER}"):
        ref = hub.resolve(name)
        assert (ref.name, ref.revision) == ("owner/name", OTHER)
        assert (ref.folder / "model.safetensors").read_text() == "newer"
    assert hub.resolve("owner/name").revision == MAIN
    server.requests.clear()
    assert hub.resolve("owner/name", revision="v2").revision == OTHER
    assert server.requests == []


@pytest.mark.parametrize("lost", ["tokenizer.json", "model.safetensors", "config.json"])
def test_a_partial_copy_is_completed(lost, cache, owned, server):
    folder = hub.resolve("owner/name").folder
    (folder / lost).resolve().unlink()
    (folder / lost).unlink()
    server.requests.clear()
    assert (hub.resolve("owner/name").folder / lost).is_file()
    assert server.fetched() == [lost]


def test_a_copy_that_lacks_a_text_is_used_when_the_hub_is_out_of_reach(cache, owned, server):
    folder = hub.resolve("owner/name").folder
    (folder / "tokenizer.json").unlink()
    server.fail_with(503)
    ref = hub.resolve("owner/name")
    assert ref.folder == folder and "may lack some files" in ref.note
    assert "may lack" in hub.resolve("owner/name", offline=True).note


def test_a_copy_without_its_weights_is_not_used_offline(cache, owned):
    folder = hub.resolve("owner/name").folder
    (folder / "model.safetensors").unlink()
    assert "not in the cache" in str(without_hub("owner/name", offline=True))


def test_a_snapshot_of_another_program_is_used_as_it_is(cache, server):
    folder = model(cache / "models--owner--name" / "snapshots" / MAIN)
    refs = cache / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text(MAIN)
    assert hub.resolve("owner/name") == hub.ModelRef("owner/name", folder, MAIN)
    assert server.requests == []


def test_offline_asks_nothing(cache, owned, server):
    error = without_hub("owner/name", offline=True)
    assert "owner/name" in error.message and "models pull" in error.hint
    ref = hub.resolve("owner/name")
    server.requests.clear()
    assert hub.resolve("owner/name", offline=True) == ref
    assert server.requests == []


# refusals


def test_a_gated_model_says_where_to_accept(cache, server, tmp_path):
    server.add("owner/name", model(tmp_path / "served"), gated=True)
    error = without_hub("owner/name")
    assert error.message == "owner/name is gated"
    assert f"{server.url}/owner/name" in error.hint and "HF_TOKEN" in error.hint


def test_an_unknown_model_is_told_the_nearest(cache, owned, server):
    hub.resolve("owner/name")
    error = without_hub("owner/naem")
    assert error.message == f"no model owner/naem on {server.url}" and "owner/name?" in error.hint
    assert "HF_TOKEN" in without_hub("zzz/qqq").hint


def test_a_private_model_needs_the_token_which_no_message_shows(
    cache, server, tmp_path, monkeypatch
):
    server.add("owner/name", model(tmp_path / "served"), private=True)
    assert "no model owner/name" in str(without_hub("owner/name"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert hub.resolve("owner/name").revision == MAIN
    server.fail_with(401)
    error = without_hub("owner/other")
    assert "hf_secret" not in str(error) and "HF_TOKEN" in error.hint


@pytest.mark.parametrize("token", ["hf_sécret", "hf_s\0ecret"])
def test_a_garbled_token_is_told_so_and_not_shown(token, cache, owned, tmp_path):
    (tmp_path / "token").write_text(token, encoding="utf-8")
    error = without_hub("owner/name")
    assert error.message.startswith("the token holds") and "cret" not in str(error)


def test_an_unknown_revision_is_named(cache, owned):
    assert without_hub("owner/name@nope").message == "owner/name has no revision nope"
    assert OTHER in without_hub(f"owner/name@{OTHER}").message


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "token"), (403, "token"), (429, "too often"), (500, "trouble"), (418, "418")],
)
def test_each_refusal_has_its_words(status, words, cache, owned, server):
    server.fail_with(status)
    error = without_hub("owner/name")
    assert str(status) in error.message and words in str(error)
    assert len(server.requests) == 1


def test_a_name_that_only_the_hub_forbids_is_one_line(cache, server):
    assert "no model is called" in str(without_hub("owner/na--me")) and server.requests == []


def test_a_cache_that_cannot_be_written_is_named(cache, owned, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "/proc/vlm")
    assert "/proc/vlm" in str(without_hub("owner/name"))


def test_a_full_disk_is_named(cache, owned, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(hub, "snapshot_download", full)
    assert without_hub("owner/name").message == f"no space left for owner/name in {cache}"


# the Hub is out of reach


def test_nobody_listening_is_told_at_once(cache, server, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        point_at(f"http://127.0.0.1:{taken.getsockname()[1]}", monkeypatch)
        start = time.monotonic()
        assert "cannot reach http://127.0.0.1" in str(without_hub("owner/name"))
    assert time.monotonic() - start < 2


def test_a_hub_that_never_answers_costs_about_five_seconds(cache, owned, server):
    server.silent_after = 0
    start = time.monotonic()
    assert "did not answer" in str(without_hub("owner/name"))
    assert 4 < time.monotonic() - start < 6.5


def test_a_hub_that_falls_silent_after_its_first_answer_is_given_up(
    cache, owned, server, monkeypatch
):
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between the tries of huggingface_hub
    server.silent_after = 1
    start = time.monotonic()
    assert "did not answer" in str(without_hub("owner/name"))
    assert time.monotonic() - start < 2.5


def test_a_sign_in_page_is_not_taken_for_the_hub(cache, owned, server):
    server.fail_with(200)
    assert "does not answer as a Hub" in str(without_hub("owner/name"))


# auto


def row(name: str) -> catalog.Row:
    return next(row for row in catalog.MODELS if row.name.endswith(name))


@pytest.fixture
def serve_rows(server: Hub, cache: Path, tmp_path: Path) -> None:
    for number, each in enumerate(catalog.MODELS):
        server.add(each.name, model(tmp_path / "rows" / str(number)))


def test_auto_downloads_the_recommended_model_when_none_is_cached(serve_rows):
    assert hub.resolve_auto(PLENTY).name == catalog.RECOMMENDED.name


def test_auto_takes_the_best_cached_model_that_fits(serve_rows, server):
    small, large = row("SmolVLM-256M-Instruct"), row("Qwen3-VL-4B-Instruct")
    hub.resolve(small.name)
    hub.resolve(large.name)
    server.requests.clear()
    assert hub.resolve_auto(large.memory_bytes).name == large.name
    assert hub.resolve_auto(large.memory_bytes - 1).name == small.name
    assert server.requests == []


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json"])
def test_auto_passes_over_a_model_that_is_half_cached(lost, serve_rows):
    small, large = row("SmolVLM-256M-Instruct"), row("Qwen3-VL-4B-Instruct")
    hub.resolve(small.name)
    (hub.resolve(large.name).folder / lost).unlink()
    assert hub.resolve_auto(PLENTY).name == small.name


@pytest.mark.parametrize("how", ["offline", "variable", "refused", "status"])
def test_auto_falls_back_to_the_built_in_model(how, serve_rows, server, tmp_path, monkeypatch):
    if how == "variable":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if how == "refused":
        point_at("http://127.0.0.1:9", monkeypatch)
    if how == "status":
        server.fail_with(503)
    with pytest.raises(ModelError, match="no model is cached"):
        hub.resolve_auto(PLENTY, offline=how == "offline")
    model(tmp_path / "builtin")
    ref = hub.resolve_auto(PLENTY, offline=how == "offline")
    note = "no model is cached and the Hub is out of reach: the small built-in model answers"
    assert (ref.name, ref.revision, ref.note) == ("builtin", None, note)


def test_auto_on_too_little_memory_answers_with_the_built_in_model(serve_rows, server, tmp_path):
    with pytest.raises(ModelError, match=r"fits in 2\.\d GB"):
        hub.resolve_auto(SMALL - 1)
    model(tmp_path / "builtin")
    ref = hub.resolve_auto(SMALL - 1)
    assert ref.name == "builtin" and "the small built-in model answers" in ref.note
    assert server.requests == []


def test_auto_does_not_hide_a_refusal_behind_the_built_in_model(serve_rows, server, tmp_path):
    model(tmp_path / "builtin")
    server.fail_with(401)
    with pytest.raises(ModelError, match="401"):
        hub.resolve_auto(PLENTY)
