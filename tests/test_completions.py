"""Shell completion: the scripts in completions/, and what they are answered."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlmcli.commands import completion

COMPLETIONS = Path(__file__).parent.parent / "completions"


@pytest.mark.parametrize("shell", completion.FILES)
def test_the_scripts_in_the_repository_are_those_of_the_app(tmp_path: Path, shell: str) -> None:
    """Stale? python -m vlmcli.commands.completion completions"""
    completion.write(tmp_path)
    name = completion.FILES[shell]

    assert (COMPLETIONS / name).read_text() == (tmp_path / name).read_text()


def completed(words: str, home: Path) -> list[str]:
    """What bash would offer for the last of `words`."""
    environment = {
        **os.environ,
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
        "_VLM_COMPLETE": "complete_bash",
        "HF_HOME": str(home),
    }
    command = [sys.executable, "-m", "vlmcli"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_commands_options_and_styles_complete(tmp_path: Path) -> None:
    assert completed("vlm ca", tmp_path) == ["caption"]
    found = completed("vlm caption --te", tmp_path)
    assert found == ["--template", "--temperature", "--temp"]
    assert "detailed" in completed("vlm caption --style ", tmp_path)
    assert {"none", "int8", "int4", "auto"} <= set(completed("vlm ask --quantize ", tmp_path))


def test_model_names_complete_from_the_cache_and_the_aliases(tmp_path: Path) -> None:
    (tmp_path / "hub/models--acme--eye-2b/snapshots/0123").mkdir(parents=True)
    (tmp_path / "hub/datasets--acme--eye-data/snapshots/0123").mkdir(parents=True)

    assert completed("vlm caption -m ac", tmp_path) == ["acme/eye-2b"]
    assert "smolvlm" in completed("vlm ask --model smol", tmp_path)


def test_completion_imports_nothing_heavy(tmp_path: Path) -> None:
    script = (
        "import sys, atexit; from vlmcli.app import main\n"
        "try: main([])\n"
        "finally: print([m for m in ('torch', 'PIL', 'huggingface_hub', 'transformers')"
        " if m in sys.modules], file=sys.stderr)"
    )
    environment = {
        **os.environ,
        "COMP_WORDS": "vlm caption -m ",
        "COMP_CWORD": "3",
        "_VLM_COMPLETE": "complete_bash",
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == "[]\n"
    assert "smolvlm" in done.stdout


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_itself_completes(tmp_path: Path) -> None:
    (tmp_path / "vlm").write_text(f"#!/bin/sh\nexec {sys.executable} -m vlmcli\n")
    (tmp_path / "vlm").chmod(0o755)
    script = (
        f"source {COMPLETIONS / 'vlm.bash'}; COMP_WORDS=(vlm capt); COMP_CWORD=1;"
        ' _vlm_completion vlm; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "caption\n"
