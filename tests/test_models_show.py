"""`vlm models show`: what can be known of a model without loading it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import models_here
import pytest
from conftest import Run
from hub_server import MAIN
from models_here import NUMBERS, OTHER, World

from vlmcli.models import cached, catalog, files

SMOLVLM = catalog.RECOMMENDED.name


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with models_here.world(tmp_path, monkeypatch) as made:
        yield made


@pytest.fixture
def real(world: World, tiny: Callable[[str], Path]) -> Path:
    """A tiny model that can be run, in the cache as acme/tiny-vlm."""
    world.hub.add("acme/tiny-vlm", tiny("smolvlm"))
    return world.put("acme/tiny-vlm")


def facts(run: Run, *arguments: object) -> dict[str, str]:
    """The labels and texts that `show` prints."""
    code, out, err = run("models", "show", *arguments)
    assert (code, err) == (0, "")
    return dict(line.split("\t") for line in out.splitlines() if not line.startswith("\t"))


def shown(run: Run, *arguments: object) -> dict[str, object]:
    code, out, err = run("models", "show", "--json", *arguments)
    assert (code, err) == (0, "")
    found: dict[str, object] = json.loads(out)
    return found


def test_a_cached_model_is_told_in_full(run: Run, world: World, real: Path) -> None:
    said = facts(run, "acme/tiny-vlm")
    record = shown(run, "acme/tiny-vlm")
    count = sum(files.count_numbers(real).values())
    assert said["parameters"] == f"{count}, float32" and record["parameters"] == count
    assert said["type"] == "smolvlm (smolvlm_vision, llama)"
    assert (said["context"], record["context_tokens"]) == ("4096 tokens", 4096)
    assert (said["branch"], said["commit"], said["folder"]) == ("main", MAIN, str(real))
    assert said["memory"].endswith("fits here")
    assert world.hub.requests == []


def test_the_tokens_of_a_picture_are_those_that_an_answer_pays_for(
    run: Run, world: World, real: Path, tmp_path: Path
) -> None:
    from conftest import draw

    photo = draw(tmp_path / "webcam.png", size=(640, 480))
    _, out, _ = run("ask", photo, "what?", "-m", "acme/tiny-vlm", "--dry-run", "--json")
    (image,) = json.loads(out)["images"]
    record = shown(run, "acme/tiny-vlm")
    assert record["image_tokens"] == image["image_tokens"] > 0
    assert record["tiles"] == image["tiles"]
    assert facts(run, "acme/tiny-vlm")["picture"].startswith(f"{image['image_tokens']} tokens for")


def test_files_are_listed_with_their_sizes(run: Run, world: World, real: Path) -> None:
    files = shown(run, "acme/tiny-vlm")["files"]
    there = [{"path": f.name, "size_bytes": f.stat().st_size} for f in sorted(real.iterdir())]
    assert files == there
    _, out, _ = run("models", "show", "acme/tiny-vlm")
    assert all(file.name in out for file in real.iterdir())


def test_the_template_is_printed_alone(run: Run, world: World, real: Path) -> None:
    code, out, err = run("models", "show", "acme/tiny-vlm", "--template")
    assert (code, err) == (0, "")
    assert out.rstrip("\n") == (real / "chat_template.jinja").read_text().rstrip("\n")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer_config.json", {"chat_template": "T"}),
        ("chat_template.json", {"chat_template": "T"}),
        ("tokenizer_config.json", {"chat_template": [{"name": "default", "template": "T"}]}),
    ],
)
def test_the_template_is_found_where_models_have_it(
    run: Run, world: World, file: str, content: object
) -> None:
    world.put("owner/name", **{file: json.dumps(content)})
    assert run("models", "show", "owner/name", "--template") == (0, "T\n", "")


def test_a_model_without_a_template_says_so(run: Run, world: World) -> None:
    world.put("owner/name")
    code, out, err = run("models", "show", "owner/name", "--template")
    assert (code, out) == (4, "") and "owner/name has no chat template" in err


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: apache-2.0\ntags: [x]", "apache-2.0"),
        ("license: other\nlicense_name: gemma", "gemma"),
        ("tags:\n- license: no", "unknown"),
    ],
)
def test_the_licence_is_that_of_the_card(run: Run, world: World, front: str, licence: str) -> None:
    world.put("owner/name", README__md=f"---\n{front}\n---\n# license: mit\n")
    assert facts(run, "owner/name")["licence"] == licence


def test_what_cannot_be_known_is_unknown(run: Run, world: World) -> None:
    """Its processor cannot be loaded: the tokenizer is an empty object."""
    world.put("owner/name")
    said = facts(run, "owner/name")
    assert said["picture"].startswith("unknown") and said["licence"] == "unknown"
    assert said["parameters"] == f"{NUMBERS}, bfloat16"
    assert shown(run, "owner/name")["image_tokens"] is None


def test_a_folder_an_alias_and_the_built_in_model_are_shown(
    run: Run, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = models_here.write_model(tmp_path / "mine")
    assert facts(run, folder)["folder"] == str(folder)
    assert run("models", "alias", "mine", folder)[0] == 0
    assert facts(run, "mine")["folder"] == str(folder)
    assert run("models", "show", "builtin")[0] == 4
    monkeypatch.setattr(cached, "BUILTIN_FOLDER", folder)
    assert facts(run, "builtin")["name"] == "builtin"
    world.put(SMOLVLM)
    assert facts(run, "smolvlm")["name"] == SMOLVLM


def test_a_revision_is_shown_by_its_branch_or_the_start_of_its_commit(
    run: Run, world: World
) -> None:
    world.put("owner/name")
    world.serve("owner/name", {"v2": OTHER})
    world.put("owner/name", "v2")
    assert shown(run, "owner/name")["revision"] == MAIN
    assert shown(run, "owner/name@v2")["revision"] == OTHER
    assert shown(run, f"owner/name@{OTHER[:8]}")["revision"] == OTHER


def test_a_recommended_model_that_is_not_here_is_told_from_the_table(
    run: Run, world: World
) -> None:
    said = facts(run, "qwen3-vl")
    assert said["name"] == "Qwen/Qwen3-VL-4B-Instruct" and "vlm models pull" in said["state"]
    assert said["licence"] == "Apache-2.0" and said["download"] == "about 8.9 GB"
    assert shown(run, "qwen3-vl")["state"] == "not cached" and world.hub.requests == []


def test_any_other_model_that_is_not_here_is_exit_4_and_no_request(run: Run, world: World) -> None:
    code, out, err = run("models", "show", "no/such")
    assert (code, out) == (4, "") and world.hub.requests == []
    assert err == (
        "vlm: no/such is not in the cache; vlm models ls lists what is;"
        " vlm models pull no/such fetches it\n"
    )
    world.put("owner/name")
    assert "did you mean owner/name?" in run("models", "show", "owner/naem")[2]


def test_a_model_that_sees_nothing_costs_no_processor(world: World) -> None:
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}
    world.put("owner/text", config__json=json.dumps(config))
    script = (
        "import sys; from vlmcli.app import main; main(['models', 'show', 'owner/text']);"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "answers nothing about pictures" in done.stdout and "picture\t" not in done.stdout


def test_a_broken_off_download_is_shown_as_what_it_is(run: Run, world: World) -> None:
    blobs = world.place("owner/part") / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{'a' * 64}.incomplete").write_bytes(bytes(5000))
    assert facts(run, "owner/part")["state"] == "partial"


def test_program_code_of_a_model_is_not_run(run: Run, world: World, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    config = {"model_type": "own", "auto_map": {"AutoConfig": "modeling.C"}, "vision_config": {}}
    code = f"open({str(ran)!r}, 'w')\n"
    world.put("owner/name", config__json=json.dumps(config), modeling__py=code)
    assert facts(run, "owner/name")["picture"].startswith("unknown") and not ran.exists()


def test_damaged_texts_are_no_bug(run: Run, world: World) -> None:
    world.put("owner/name", config__json="{", README__md="---\n")
    assert facts(run, "owner/name")["context"] == "unknown"
