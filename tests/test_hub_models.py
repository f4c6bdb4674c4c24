"""`vlm caption -m owner/name`: through huggingface_hub, from a Hub on loopback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub_server import Hub
from safetensors.torch import load_file

from vlmcli.models import catalog

pytestmark = pytest.mark.slow  # each starts programs that load a model

NAME = "acme/tiny-vlm"


def vlm(hub: Hub, home: Path, *arguments: object, **more: str) -> tuple[int, str, str]:
    """In a process of its own: huggingface_hub reads its variables when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), **more}
    command = [sys.executable, "-m", "vlmcli", *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def hub(tiny: Callable[[str], Path]) -> object:
    with Hub() as served:
        served.add(NAME, tiny("smolvlm"))
        yield served


def test_a_model_is_downloaded_once_and_then_needs_no_network(
    hub: Hub, tmp_path: Path, picture: Path
) -> None:
    ask = ("ask", picture, "what?", "-m", NAME, "-n", 4, "--json")
    code, out, err = vlm(hub, tmp_path, *ask)
    assert (code, err) == (0, "")
    first = json.loads(out)
    assert first["model"] == NAME and len(first["revision"]) == 40
    assert hub.requests

    hub.requests.clear()
    code, out, err = vlm(hub, tmp_path, *ask)
    assert (code, err) == (0, "")
    assert json.loads(out)["text"] == first["text"]
    assert hub.requests == []

    assert vlm(hub, tmp_path, *ask, "--offline")[0] == 0
    assert vlm(hub, tmp_path, *ask, HF_HUB_OFFLINE="1")[0] == 0
    assert vlm(hub, tmp_path, *ask, HF_ENDPOINT="http://127.0.0.1:9")[0] == 0
    assert hub.requests == []


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("acme/nothing", "acme/nothing"),
        (f"{NAME}@no-branch", "no-branch"),
        ("./nowhere", "nowhere"),
    ],
)
def test_a_model_that_is_not_there_is_one_line_and_exit_4(
    hub: Hub, tmp_path: Path, picture: Path, model: str, says: str
) -> None:
    code, out, err = vlm(hub, tmp_path, "caption", picture, "-m", model)

    assert (code, out) == (4, "")
    assert says in err and err.startswith("vlm: ") and err.count("\n") == 1


def test_offline_and_not_cached_is_one_line_and_no_request(
    hub: Hub, tmp_path: Path, picture: Path
) -> None:
    code, out, err = vlm(hub, tmp_path, "caption", picture, "-m", NAME, "--offline")

    assert (code, out) == (4, "")
    assert f"vlm models pull {NAME}" in err and err.count("\n") == 1
    assert hub.requests == []


def test_a_bad_picture_costs_no_request(hub: Hub, tmp_path: Path) -> None:
    code, _, _ = vlm(hub, tmp_path, "ask", "nowhere.png", "what?", "-m", NAME)

    assert code == 3
    assert hub.requests == []


def test_auto_downloads_the_recommended_model_once(
    hub: Hub, tmp_path: Path, picture: Path, tiny: Callable[[str], Path]
) -> None:
    hub.add(catalog.RECOMMENDED.name, tiny("smolvlm"))
    code, out, _ = vlm(hub, tmp_path, "caption", picture, "-n", 2, "--json")
    assert (code, json.loads(out)["model"]) == (0, catalog.RECOMMENDED.name)

    hub.requests.clear()
    code, out, _ = vlm(hub, tmp_path, "caption", picture, "-n", 2, "--json", "--offline")
    assert (code, json.loads(out)["model"]) == (0, catalog.RECOMMENDED.name)
    assert hub.requests == []


def test_a_dry_run_downloads_no_weights(hub: Hub, tmp_path: Path, picture: Path) -> None:
    ask = ("ask", picture, "what?", "-m", NAME)
    code, _, err = vlm(hub, tmp_path, *ask, "--dry-run")
    assert (code, err) == (0, "")
    assert not any("safetensors" in request for request in hub.fetched())

    code, out, _ = vlm(hub, tmp_path, *ask, "-n", 2)
    assert code == 0 and out
    assert any("safetensors" in request for request in hub.fetched())


def test_pickled_weights_are_taken_only_if_the_user_says_so(
    hub: Hub, tmp_path: Path, picture: Path, tiny: Callable[[str], Path]
) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny("smolvlm"), pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    hub.add("acme/pickled", pickled)
    ask = ("ask", picture, "what?", "-n", 4, "-m")
    for name in ("acme/pickled", pickled):
        code, out, err = vlm(hub, tmp_path, *ask, name)
        assert (code, out) == (4, "") and "--allow-pickle takes pytorch_model.bin" in err
    assert "pytorch_model.bin" not in hub.fetched()
    _, wanted, _ = vlm(hub, tmp_path, *ask, NAME)
    for name in ("acme/pickled", pickled):
        assert vlm(hub, tmp_path, *ask, name, "--allow-pickle") == (0, wanted, "")


CONFIGURATION = """
from pathlib import Path
from transformers import SmolVLMConfig
(Path({marks!r}) / "ran").touch()
class OwnConfig(SmolVLMConfig):
    model_type = "own_vlm"
"""
MODELING = """
from transformers import SmolVLMForConditionalGeneration
from .configuration_own import OwnConfig
class OwnModel(SmolVLMForConditionalGeneration):
    config_class = OwnConfig
"""


def test_program_code_of_a_model_runs_only_if_trusted_and_is_listed_first(
    hub: Hub, tmp_path: Path, picture: Path, tiny: Callable[[str], Path]
) -> None:
    own = tmp_path / "own"
    shutil.copytree(tiny("smolvlm"), own)
    config = json.loads((own / "config.json").read_text())
    classes = {"AutoConfig": "configuration_own.OwnConfig"}
    classes["AutoModelForImageTextToText"] = "modeling_own.OwnModel"
    own_config = config | {"model_type": "own_vlm", "auto_map": classes}
    (own / "config.json").write_text(json.dumps(own_config))
    (own / "configuration_own.py").write_text(CONFIGURATION.format(marks=str(tmp_path)))
    (own / "modeling_own.py").write_text(MODELING)
    hub.add("acme/own", own)

    ask = ("ask", picture, "what?", "-n", 4, "-m")
    code, out, err = vlm(hub, tmp_path, *ask, "acme/own")
    assert (code, out) == (4, "") and "configuration_own.py, modeling_own.py" in err
    assert not (tmp_path / "ran").exists()
    _, wanted, _ = vlm(hub, tmp_path, *ask, NAME)
    for name in ("acme/own", own):
        code, out, err = vlm(hub, tmp_path, *ask, name, "--trust-remote-code")
        listed = f"running the program code of {name}: configuration_own.py, modeling_own.py"
        assert (code, out, err) == (0, wanted, f"vlm: {listed}\n")
    assert (tmp_path / "ran").exists()
    hub.requests.clear()
    assert vlm(hub, tmp_path, *ask, "acme/own", "--trust-remote-code")[:2] == (0, wanted)
    assert hub.requests == []


def test_a_download_of_some_length_is_told_in_tenths_where_there_is_no_terminal(
    hub: Hub, tmp_path: Path, picture: Path
) -> None:
    hub.bytes_per_s = 100_000
    code, _, err = vlm(hub, tmp_path, "ask", picture, "what?", "-m", NAME, "-n", 1)
    assert code == 0
    lines = err.splitlines()
    assert 2 <= len(lines) <= 10 and all("downloading acme/tiny-vlm: " in line for line in lines)
    shares = [int(line.split()[3]) for line in lines]
    assert shares == sorted(shares)
