"""Everything that can be wrong with a model, as a new user sees it: one line, and exit code 4."""

import json
import sys
import time
from pathlib import Path

import pytest
from conftest import Run, point_at
from huggingface_hub import close_session

from vlmcli import hub

LOG_IN = "set HF_TOKEN or run `hf auth login`"
NETWORK = "is the network up? is there a proxy, or a sign-in page?"


@pytest.fixture
def told(run: Run, owned: Path, picture: Path) -> object:
    """What `vlm caption -m NAME` says that is wrong."""

    def say(model: str, *options: str) -> str:
        code, out, err = run("caption", picture, "-m", model, *options)
        assert (code, out) == (4, "") and err.startswith("vlm: ") and err.endswith("\n")
        assert err.count("\n") == 1
        return err.removeprefix("vlm: ").rstrip("\n")

    return say


def test_no_such_model(told, server):
    assert told("owner/nothing") == (
        f"no model owner/nothing on {server.url}; if it is private, {LOG_IN}"
    )
    assert told("smolvml") == "no model is called 'smolvml'; did you mean smolvlm or smolvlm2?"


def test_no_such_revision(told, server):
    assert told("owner/name@v9") == f"owner/name has no revision v9; see {server.url}/owner/name"


def test_gated(told, server, monkeypatch):
    server.repos["owner/name"].gated = True
    terms = f"accept its terms at {server.url}/owner/name"
    assert told("owner/name") == f"owner/name is gated; {terms}, then {LOG_IN}"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert told("owner/name") == (
        "owner/name is gated, and your token has no access;"
        f" {terms} with the account of your token, and wait for leave if it asks"
    )


def test_a_missing_and_a_bad_token(told, server, monkeypatch):
    server.fail_with(401)
    answer = f"{server.url} answers 401 for owner/name"
    assert told("owner/name") == f"{answer}; it wants a token: {LOG_IN}"
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert told("owner/name") == f"{answer}; it does not take your token: {LOG_IN}"
    monkeypatch.setenv("HF_TOKEN", "hf_sécret")
    assert told("owner/name") == f"the token holds a character that none can; {LOG_IN}"


def test_offline_and_not_cached(told, server):
    assert told("owner/name", "--offline") == (
        "owner/name (main) is not in the cache; online, `vlm models pull owner/name` fetches it"
    )
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (429, f"you asked too often: wait a few minutes; with a token you may more: {LOG_IN}"),
        (500, "the Hub is in trouble: try again later"),
        (503, "the Hub is in trouble: try again later"),
    ],
)
def test_a_hub_that_refuses(status, hint, told, server):
    server.fail_with(status)
    assert told("owner/name") == f"{server.url} answers {status} for owner/name; {hint}"


def test_a_hub_that_does_not_answer(told, server, monkeypatch):
    server.silent_after = 0
    assert told("owner/name") == f"{server.url} did not answer in time; {NETWORK}"
    point_at("http://127.0.0.1:9", monkeypatch)
    assert told("owner/name") == (
        f"cannot reach http://127.0.0.1:9: [Errno 111] Connection refused; {NETWORK}"
    )


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        (
            "ALL_PROXY",
            "socks5://127.0.0.1:9",
            "a SOCKS proxy needs the package socksio; pip install socksio, or name an HTTP proxy",
        ),
        (
            "ALL_PROXY",
            "ftp://me:secret@host",
            "no such proxy: Unknown scheme for proxy URL URL('ftp://…@host');"
            " write HTTP_PROXY, HTTPS_PROXY and ALL_PROXY as http://host:port",
        ),
        (
            "SSL_CERT_FILE",
            "/no/such.pem",
            "no certificates in '/no/such.pem';"
            " SSL_CERT_FILE names a file of certificates; unset, the usual ones are taken",
        ),
    ],
)
def test_a_proxy_and_certificates_that_are_of_no_use(variable, value, words, told, monkeypatch):
    close_session()
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv(variable, value)
    assert told("owner/name") == words


def test_a_password_in_the_endpoint_is_not_shown(told, monkeypatch):
    point_at("http://me:secret@127.0.0.1:9", monkeypatch)
    assert told("owner/name").startswith("cannot reach http://…@127.0.0.1:9: ")


def test_pickles_and_other_formats(told, owned):
    (owned / "config.json").write_text('{"model_type": "smolvlm"}')
    (owned / "model.safetensors").rename(owned / "pytorch_model.bin")
    assert told("owner/name") == (
        "owner/name has its weights only as pickles; --allow-pickle takes pytorch_model.bin,"
        " which can run any code: only if you trust it"
    )
    (owned / "pytorch_model.bin").rename(owned / "model.Q4_K_M.gguf")
    assert told("owner/name@main", "--no-pickle") == (
        "owner/name has no weights for transformers, but .gguf files;"
        " vlm takes safetensors; look for a version of the model for transformers"
    )


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
            "owner/name is not a vision-language model: LlamaForCausalLM reads and writes text"
            " only; vlm models ls --recommended lists some that are",
        ),
        (
            {"model_type": "clip", "architectures": ["CLIPModel"]},
            "owner/name is not a vision-language model: CLIPModel compares pictures with texts;"
            " vlm models ls --recommended lists some that are",
        ),
        (
            {"model_type": "vit", "architectures": ["ViTForImageClassification"]},
            "owner/name is not a vision-language model: ViTForImageClassification sorts pictures"
            " into classes; vlm models ls --recommended lists some that are",
        ),
        (
            {"model_type": "qwen9_vl", "transformers_version": "5.99.0"},
            "owner/name is of the type 'qwen9_vl', which transformers 5.{} does not know;"
            " it was made with 5.99.0: pip install -U 'transformers>=5.99.0'",
        ),
        (
            {"model_type": "qwen9_vl"},
            "owner/name is of the type 'qwen9_vl', which transformers 5.{} does not know;"
            " a newer one may: pip install -U transformers",
        ),
        (
            {},
            "owner/name is no model of transformers: no model_type; it may be made for another"
            " program; see its page on the Hub",
        ),
    ],
)
def test_a_model_that_cannot_see_is_told_before_its_weights_come(
    config, words, told, owned, server
):
    import transformers

    (owned / "config.json").write_text(json.dumps(config))
    assert told("owner/name") == words.replace("5.{}", transformers.__version__)
    assert "model.safetensors" not in server.fetched()


def test_program_code_is_listed_and_not_fetched(told, owned, server):
    own = {"AutoModelForCausalLM": "modeling_own.Own"}
    (owned / "config.json").write_text(json.dumps({"model_type": "own_vlm", "auto_map": own}))
    (owned / "modeling_own.py").write_text("raise SystemExit('ran')")
    (owned / "processing_own.py").touch()
    assert told("owner/name") == (
        "owner/name brings program code of its own (modeling_own.py, processing_own.py), which was"
        " not run; --trust-remote-code runs it: read it first; or is there one for transformers"
        " (…-hf)?"
    )
    assert server.fetched() == ["config.json", "tokenizer.json"]


def test_damaged_files(told, owned, cache):
    (owned / "config.json").write_text('{"model_type": "smo')
    assert told("owner/name") == (
        "owner/name: config.json is damaged; vlm models verify owner/name mends it"
    )


def test_weights_that_arrive_damaged(told, owned, server):
    (owned / "config.json").write_text('{"model_type": "smolvlm"}')
    server.spoilt = True
    assert told("owner/name") == (
        "owner/name: model.safetensors arrived damaged;"
        " run it again; if it stays so, tell whoever runs the Hub or the proxy"
    )


def test_too_little_room(told, owned, server):
    (owned / "config.json").write_text('{"model_type": "smolvlm"}')
    server.announced = 10**18
    said = told("owner/name")
    assert said.startswith("owner/name takes 1000000000.00 GB more, and ")
    assert said.endswith(
        " GB free; free some space (vlm models rm), or name another place with HF_HOME"
    )


def test_program_code_that_lies_in_another_repo_is_listed_too(told, owned):
    own = {"AutoConfig": "other/code--configuration_own.Own"}
    (owned / "config.json").write_text(json.dumps({"model_type": "own_vlm", "auto_map": own}))
    assert "(other/code: configuration_own.py), which was not run" in told("owner/name")


def test_an_answer_that_is_json_of_something_else(told, server, monkeypatch):
    monkeypatch.setattr(server, "garbled", True)
    assert told("owner/name") == f"{server.url} does not answer as a Hub does; {NETWORK}"


def test_a_file_that_is_listed_and_not_there(told, owned, server):
    (owned / "config.json").write_text('{"model_type": "smolvlm"}')
    server.lost = "model.safetensors"
    assert told("owner/name") == (
        f"{server.url} lists a file of owner/name that it does not have;"
        " it is not whole there; see its page, or try another revision"
    )


def test_a_silent_hub_is_waited_for_once_where_a_copy_lacks_a_text(run, owned, server, picture):
    (owned / "config.json").write_text('{"model_type": "smolvlm"}')
    snapshot = hub.resolve("owner/name").folder
    (snapshot / "tokenizer.json").unlink()
    server.silent_after = len(server.requests)
    started = time.monotonic()
    code, _, err = run("caption", picture, "-m", "owner/name")
    assert code == 4 and "cannot be loaded" in err  # its weights are none
    assert time.monotonic() - started < 9 and len(server.requests) - server.silent_after == 1
