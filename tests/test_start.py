"""What happens before the first token: what is imported, beside what, and how long each takes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import tiny_models
import torch
from conftest import DATA, Run
from transformers import AutoModelForImageTextToText

from vlmcli.backends.local.weights import Unfilled

Tiny = Callable[[str], Path]

CHART = DATA / "chart.png"
VLM = [sys.executable, "-c", "from vlmcli.app import run; run()"]
AT_ONCE_S = 20
"""For a process that must not wait for what takes ten times as long."""


def python(script: str, *arguments: object) -> str:
    """What a fresh Python prints that runs the script."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


# What is imported

SPARED = ("torch._dynamo.convert_frame", "sympy", "torch.distributed.tensor", "torch.onnx", "scipy")


@pytest.mark.parametrize("family", ["builtin", "idefics3", "qwen2_vl"])
def test_a_caption_imports_no_compiler_no_algebra_and_nothing_spread_over_machines(
    family: str, tiny: Tiny
) -> None:
    model = family if family == "builtin" else tiny(family)
    script = """
import gc, sys
from vlmcli.app import main
assert main(["caption", sys.argv[1], "-m", sys.argv[2], "-n", "3"]) == 0
print([name for name in sys.argv[3:] if name in sys.modules])
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""
    *_, spared, garbage = python(script, CHART, model, *SPARED).splitlines()
    assert spared == "[]"
    assert garbage == "True True"  # looked for again, but not among the modules


@pytest.mark.slow
def test_the_compiler_is_imported_when_it_is_asked_for_and_knows_what_was_marked_before() -> None:
    python("""
import sys
import vlmcli.backends.local.engine
import inspect, torch

@torch.compiler.disable
def twice(x):
    return x * 2

@torch.compiler.disable(recursive=False)
def thrice(x):
    return x * 3

constant = torch._dynamo.assume_constant_result(lambda: 5)
inspect.getmodule(inspect.currentframe())  # looks into every module
one = torch.ones(2)
assert twice(one).sum() == 4 and thrice(one).sum() == 6
assert "torch._dynamo.convert_frame" not in sys.modules

import torch._dynamo.config
import torch._dynamo.testing
assert torch._dynamo.config.recompile_limit > 0
assert "torch._dynamo.convert_frame" in sys.modules
assert constant._dynamo_marked_constant
counted = torch._dynamo.testing.CompileCounter()
compiled = torch.compile(lambda x: twice(x + 1) + 1, backend=counted)
assert compiled(one).sum() == 10 and counted.frame_count == 2  # broken in two by what is left out
assert thrice(one).sum() == 6
""")


@pytest.mark.slow
def test_what_transformers_took_of_the_compiler_works() -> None:
    python("""
import vlmcli.backends.local.engine
import torch
from transformers import masking_utils

with masking_utils.TransformGetItemToIndex():
    taken = torch.func.vmap(lambda at: torch.arange(4)[at])(torch.tensor([2, 3]))
assert taken.tolist() == [2, 3]
from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex
assert isinstance(masking_utils.TransformGetItemToIndex(), TransformGetItemToIndex)
""")


@pytest.mark.slow
def test_the_checks_of_torch_hold_and_its_algebra_is_there_when_it_is_asked_for() -> None:
    python("""
import sys
import vlmcli.backends.local.engine
import torch

torch._check(True)
try:
    torch._check(False, lambda: "so it is said")
except RuntimeError as error:
    assert "so it is said" in str(error)
else:
    raise AssertionError
assert "sympy" not in sys.modules
import torch.fx.experimental.symbolic_shapes
assert torch.fx.experimental.symbolic_shapes.ShapeEnv()
assert "sympy" in sys.modules
torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
assert torch.distributed.is_available()
""")


# A model before its weights come


def test_without_memory_nothing_is_filled_and_what_is_counted_is_counted() -> None:
    with Unfilled(), torch.device("meta"):
        layer = torch.nn.Linear(3, 3)
        counted = torch.arange(0, 6, 2, dtype=torch.float) / 6
        beside = counted + layer.bias
        together = torch.stack([counted, layer.bias])
    assert layer.weight.is_meta
    assert beside.is_meta and beside.shape == (3,)
    assert together.is_meta and together.shape == (2, 3)
    assert counted.tolist() == pytest.approx([0, 1 / 3, 2 / 3])


def test_with_memory_everything_is_filled_as_ever() -> None:
    torch.manual_seed(1)
    filled = torch.nn.Linear(3, 3).weight
    torch.manual_seed(1)
    with Unfilled():
        assert torch.equal(torch.nn.Linear(3, 3).weight, filled)


def test_a_failure_is_told_as_it_is() -> None:
    with Unfilled(), pytest.raises(RuntimeError, match="must match the size"):
        torch.ones(2) + torch.ones(3)


FAMILIES = sorted(set(tiny_models.FAMILIES) - {"lfm2_vl"})  # which needs torchvision


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_loads_to_the_last_number_as_transformers_loads_it(
    family: str, dtype: torch.dtype, tiny: Tiny
) -> None:
    load = partial(
        AutoModelForImageTextToText.from_pretrained, tiny(family), dtype=dtype, use_safetensors=True
    )
    with Unfilled():
        ours = load()
    theirs = load()
    for numbers in ("named_parameters", "named_buffers"):
        wanted = dict(getattr(theirs, numbers)())
        found = dict(getattr(ours, numbers)())
        assert found.keys() == wanted.keys()
        for name, tensor in wanted.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    assert all_shared(ours) == all_shared(theirs)


def all_shared(model: torch.nn.Module) -> list[list[str]]:
    """The names that stand for one and the same weight."""
    names: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(weight.data_ptr(), []).append(name)
    return sorted(sorted(shared) for shared in names.values() if len(shared) > 1)


def test_a_weight_can_be_written_to_and_its_file_stays_as_it_is(tiny: Tiny) -> None:
    file = tiny("idefics3") / "model.safetensors"
    before = file.read_bytes()
    with Unfilled():
        model = AutoModelForImageTextToText.from_pretrained(file.parent, dtype="auto")
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight.add_(1)
    assert file.read_bytes() == before


# Beside the reading of the pictures


@pytest.fixture
def slow(tmp_path: Path) -> tuple[dict[str, str], Path]:
    """An environment in which torch takes minutes to import, and a file that tells it has begun."""
    begun = tmp_path / "begun"
    (tmp_path / "torch").mkdir()
    source = f"import pathlib, time; pathlib.Path({str(begun)!r}).touch(); time.sleep(200)"
    (tmp_path / "torch" / "__init__.py").write_text(source)
    return {
        **os.environ,
        "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parent.parent}",
    }, begun


@pytest.fixture
def started() -> Iterator[list["subprocess.Popen[bytes]"]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(place: Path) -> None:
    end = time.monotonic() + AT_ONCE_S
    while not place.exists():
        assert time.monotonic() < end, "the import has not begun"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_ctrl_c_ends_an_import_at_once(slow, started) -> None:
    environment, begun = slow
    command = [*VLM, "caption", str(CHART), "-m", "builtin"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    started.append(process)
    wait_for(begun)
    time.sleep(0.5)  # the picture is read, and the rest is waited for
    process.send_signal(signal.SIGINT)
    assert process.wait(AT_ONCE_S) == -signal.SIGINT
    assert process.stderr.read() == b""


@pytest.mark.parametrize("command", [["caption"], ["ask", "-p", "what?"]])
def test_libraries_are_imported_while_a_picture_is_waited_for(
    command: list[str], slow, started
) -> None:
    environment, begun = slow
    process = subprocess.Popen(
        [*VLM, *command, "-", "-m", "builtin"], env=environment, stdin=subprocess.PIPE
    )
    started.append(process)
    wait_for(begun)  # and nothing has come on stdin yet


@pytest.mark.parametrize("command", [["caption"], ["ask", "-p", "what?"], ["grep", "a dog"]])
def test_a_picture_that_cannot_be_read_does_not_wait_for_an_import(
    command: list[str], slow, tmp_path: Path
) -> None:
    environment, _ = slow
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(CHART.read_bytes()[:300])
    done = subprocess.run(
        [*VLM, *command, str(damaged)], env=environment, capture_output=True, timeout=AT_ONCE_S
    )
    assert done.returncode == 3 and b"damaged.png" in done.stderr and done.stdout == b""


@pytest.mark.parametrize("command", [["caption"], ["ask", "-p", "what?"], ["grep", "a dog"]])
def test_a_name_without_a_file_begins_no_import(command: list[str], slow) -> None:
    environment, begun = slow
    done = subprocess.run(
        [*VLM, *command, "nowhere.jpg"], env=environment, capture_output=True, timeout=AT_ONCE_S
    )
    assert done.returncode == 3 and not begun.exists()


def test_the_version_is_told_without_what_reads_a_command_line() -> None:
    told = python("""
import sys
from vlmcli.__main__ import run
sys.argv[1:] = ["--version"]
run()
print([name for name in ("typer", "vlmcli.app") if name in sys.modules])
""")
    version, imported = told.splitlines()
    assert version.startswith("vlm ") and imported == "[]"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_version_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "vlmcli", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 74 and b"the disk is full" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["caption", "--help"], ["caption", "-n", "x", "a"]]
)
def test_help_and_a_wrong_flag_begin_no_import(arguments: list[str], slow) -> None:
    environment, begun = slow
    subprocess.run([*VLM, *arguments], env=environment, capture_output=True, timeout=AT_ONCE_S)
    assert not begun.exists()


# A figure for each phase

START = ["imports", "pictures", "model", "processor", "weights", "prompt"]


def test_stats_tell_how_long_each_phase_took_and_the_start_only_once(tmp_path: Path) -> None:
    second = tmp_path / "second.png"
    second.write_bytes(CHART.read_bytes())
    command = [*VLM, "caption", str(CHART), str(second), "-m", "builtin", "--stats"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    _, first, _, then = done.stderr.splitlines()
    assert sorted(names(first)) == sorted([*START, "first token", "decoding"])
    # The second is read ahead: while the first is, or later.
    assert [n for n in names(then) if n != "pictures"] == ["prompt", "first token", "decoding"]
    assert first.startswith("phases: ") and then.startswith("phases: ")


def names(line: str) -> list[str]:
    return re.findall(r"([a-z ]+) [\d.]+ s", line.removeprefix("phases: ").replace(", ", ","))


def test_a_record_has_the_phases_if_stats_are_asked_for(run: Run) -> None:
    code, out, _ = run("caption", CHART, "-m", "builtin", "--json", "--stats")
    record = json.loads(out)
    assert code == 0
    assert record["phases"]["first_token"] == record["seconds_to_first_token"]
    assert {"pictures", "processor", "weights", "prompt", "decoding"} <= record["phases"].keys()
    assert all(seconds >= 0 for seconds in record["phases"].values())
    _, out, err = run("caption", CHART, "-m", "builtin", "--json")
    assert "phases" not in json.loads(out) and err == ""


def test_grep_and_choices_have_phases_too(run: Run) -> None:
    _, _, err = run("grep", "a bar chart", CHART, "-M", "builtin", "--stats")
    assert "phases: " in err and "weights" in err
    _, _, err = run("ask", CHART, "-p", "bars?", "--choices", "a,b", "-m", "builtin", "--stats")
    assert "phases: " in err and "weights" in err
