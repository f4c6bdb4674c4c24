"""Which accelerator and number format are chosen, why, and what is refused before a load."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import tiny_models
import torch
from conftest import Run

from vlmcli import cpu, device
from vlmcli.cpu import measuring
from vlmcli.device import Device
from vlmcli.errors import DeviceError, UsageError

GB = 1_000_000_000

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Make torch say that it finds these accelerators, and nothing else."""

    def pretend(
        *kinds: str, count: int = 1, bf16: bool = True, hip: str | None = None, free: int = 8 * GB
    ) -> None:
        for kind, module in (("cuda", torch.cuda), ("xpu", torch.xpu)):
            name = "Radeon" if hip else "GeForce" if kind == "cuda" else "Arc"
            monkeypatch.setattr(module, "is_available", lambda here=kind in kinds: here)
            monkeypatch.setattr(module, "device_count", lambda: count)
            monkeypatch.setattr(module, "get_device_name", lambda name=name: name)
            monkeypatch.setattr(module, "mem_get_info", lambda _: (free, 2 * free))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation
        )
        monkeypatch.setattr(torch.version, "hip", hip)

    return pretend


def cpu_with(monkeypatch: pytest.MonkeyPatch, times_as_fast: float = 1.0, **features: bool) -> None:
    """A CPU with these features, that many times as fast in bfloat16 as in float32."""
    us = {
        name: (100 / times_as_fast if "bfloat16" in name else 100.0,) * len(measuring.SIZES)
        for name in measuring.names()
    }
    monkeypatch.setattr(cpu, "speeds", lambda: cpu.Speeds(us))
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)


# --- the choice ---


@pytest.mark.parametrize(
    ("kinds", "order"),
    [
        ((), ("cpu",)),
        (("mps",), ("mps", "cpu")),
        (("xpu", "mps"), ("xpu", "mps", "cpu")),
        (("mps", "xpu", "cuda"), ("cuda", "xpu", "mps", "cpu")),
    ],
)
def test_the_fastest_kind_of_device_is_taken_and_the_cpu_always_remains(
    machine: Machine, kinds: tuple[str, ...], order: tuple[str, ...]
) -> None:
    machine(*kinds)
    assert device.available() == order
    assert device.choose().name == order[0]


def test_without_an_accelerator_it_is_the_cpu_and_says_so(machine: Machine) -> None:
    machine()
    chosen = device.choose()
    assert chosen.name == "cpu"
    assert "no accelerator that torch can use" in chosen.why
    assert 0 < chosen.free_bytes <= psutil.virtual_memory().total


@pytest.mark.parametrize("feature", ["amx_bf16", "avx512_bf16", "bf16"])
def test_a_cpu_that_computes_in_bfloat16_does_and_is_quoted_for_it(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, feature: str
) -> None:
    machine()
    cpu_with(monkeypatch, **{feature: True})
    chosen = device.choose()
    assert chosen.dtype is torch.bfloat16
    assert feature in chosen.why


def test_any_other_cpu_computes_in_float32(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine()
    cpu_with(monkeypatch, avx2=True, avx512_bf16=False)
    chosen = device.choose()
    assert chosen.dtype is torch.float32
    assert "no bfloat16" in chosen.why


@pytest.mark.parametrize(
    ("times_as_fast", "has", "dtype", "said"),
    [
        (2.5, False, torch.bfloat16, "measured here: 2.5 times as fast as float32"),
        (0.5, True, torch.float32, "measured here: 2.0 times as fast as bfloat16"),
        (1.2, False, torch.float32, "no bfloat16"),
        (0.8, True, torch.bfloat16, "avx512_bf16"),
    ],
)
def test_what_is_clearly_faster_on_a_cpu_is_taken_and_else_its_features_decide(
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    times_as_fast: float,
    has: bool,
    dtype: torch.dtype,
    said: str,
) -> None:
    machine()
    cpu_with(monkeypatch, times_as_fast, avx512_bf16=has)
    chosen = device.choose()
    assert chosen.dtype is dtype and said in chosen.why


def test_a_cuda_gpu_computes_in_bfloat16_and_is_named(machine: Machine) -> None:
    machine("cuda")
    chosen = device.choose()
    assert (chosen.name, chosen.dtype, chosen.free_bytes) == ("cuda", torch.bfloat16, 8 * GB)
    assert "CUDA: GeForce" in chosen.why


def test_a_gpu_that_only_emulates_bfloat16_computes_in_float16(machine: Machine) -> None:
    machine("cuda", bf16=False)
    chosen = device.choose()
    assert chosen.dtype is torch.float16
    assert "no bfloat16" in chosen.why


def test_rocm_is_called_rocm_and_not_cuda(machine: Machine) -> None:
    machine("cuda", hip="6.4")
    assert "ROCm: Radeon" in device.choose().why
    assert "CUDA" not in device.choose().why
    assert device.choose("rocm").name == "cuda"


def test_an_intel_gpu_computes_in_bfloat16_and_an_apple_gpu_in_float16(machine: Machine) -> None:
    machine("xpu")
    assert device.choose().dtype is torch.bfloat16
    assert "XPU: Arc" in device.choose().why
    machine("mps")
    assert device.choose().dtype is torch.float16
    assert "Apple GPU" in device.choose().why


def test_an_apple_gpu_has_the_memory_of_the_machine(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("mps")
    little_memory(monkeypatch, 12_345)
    assert device.choose().free_bytes == 12_345


# --- what is asked for ---


@pytest.mark.parametrize(
    ("asked", "name"), [("cuda", "cuda"), ("cuda:1", "cuda:1"), ("CUDA:01", "cuda:1")]
)
def test_a_device_that_is_asked_for_by_name_is_taken(
    machine: Machine, asked: str, name: str
) -> None:
    machine("cuda", count=2)
    chosen = device.choose(asked)
    assert chosen.name == name
    assert "as asked" in chosen.why


def test_the_cpu_can_be_asked_for_beside_an_accelerator(machine: Machine) -> None:
    machine("cuda")
    assert device.choose("cpu").name == "cpu"


@pytest.mark.parametrize("asked", ["cuda:2", "cuda:-1", "cuda:x", "cuda:1.0"])
def test_an_accelerator_past_the_last_one_is_refused_with_their_number(
    machine: Machine, asked: str
) -> None:
    machine("cuda", count=2)
    with pytest.raises(DeviceError, match="there are 2, counted from 0") as caught:
        device.choose(asked)
    assert asked in caught.value.message


@pytest.mark.parametrize("asked", ["mps", "tpu", "cuda0", ":0"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(
    machine: Machine, asked: str
) -> None:
    machine("cuda")
    with pytest.raises(DeviceError) as caught:
        device.choose(asked)
    assert f"--device {asked}: " in caught.value.message
    assert caught.value.hint == "here: cuda, cpu"


@pytest.mark.parametrize(
    ("asked", "dtype"),
    [
        ("bf16", torch.bfloat16),
        ("bfloat16", torch.bfloat16),
        ("fp16", torch.float16),
        ("float16", torch.float16),
        ("fp32", torch.float32),
        ("float32", torch.float32),
    ],
)
def test_a_number_format_that_is_asked_for_is_taken_on_any_device(
    machine: Machine, asked: str, dtype: torch.dtype
) -> None:
    for kinds in ((), ("cuda",)):
        machine(*kinds)
        chosen = device.choose("auto", asked)
        assert chosen.dtype is dtype
        assert f"{chosen.dtype_name} (as asked)" in chosen.why


@pytest.mark.parametrize("asked", ["int8", "float64", "torch.float32"])
def test_an_unknown_number_format_is_refused_with_the_known_ones(asked: str) -> None:
    with pytest.raises(UsageError) as caught:
        device.choose("auto", asked)
    assert repr(asked) in caught.value.message
    assert all(known in caught.value.hint for known in device.DTYPES)


def test_a_model_fits_up_to_the_last_byte() -> None:
    here = Device("cuda", torch.float16, "", "", free_bytes=3 * GB)
    device.check_fits(3 * GB, here, "owner/name")
    with pytest.raises(DeviceError) as caught:
        device.check_fits(3 * GB + 1, here, "owner/name")
    assert "owner/name" in caught.value.message and "float16" in caught.value.message


# --- through the front door ---


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (("--device", "cuda"), 5, "--device cuda: torch finds none on this machine; here: cpu"),
        (("--device", "nonsense"), 5, "--device nonsense: torch finds none on this machine"),
        (("--device", "cpu:²"), 5, "--device cpu:²: there are 1, counted from 0"),
        (("--device", "cpu:9"), 5, "--device cpu:9: there are 1, counted from 0"),
        (("--dtype", "nonsense"), 2, "--dtype: 'nonsense' is not one; one of auto, bfloat16"),
    ],
)
def test_what_cannot_be_had_ends_in_one_line_and_the_right_code(
    run: Run,
    tiny: Callable[[str], Path],
    picture: Path,
    machine: Machine,
    flags: tuple[str, str],
    code: int,
    said: str,
) -> None:
    machine()
    got, out, err = run("caption", picture, "-m", tiny("llava"), *flags)
    assert (got, out) == (code, "")
    assert said in err and err.count("\n") == 1


@pytest.mark.parametrize("asked", ["float32", "bf16"])
def test_json_tells_on_what_and_in_which_format_the_model_ran(
    run: Run, tiny: Callable[[str], Path], picture: Path, machine: Machine, asked: str
) -> None:
    machine()
    flags = ("-m", tiny("llava"), "--dtype", asked, "-n", 2, "--json")
    code, out, _ = run("caption", picture, *flags)
    record = json.loads(out)
    assert code == 0
    assert (record["device"], record["dtype"]) == ("cpu", str(device.DTYPES[asked])[6:])


def little_memory(monkeypatch: pytest.MonkeyPatch, available: int) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))


def with_huge_weights(folder: Path) -> None:
    """Replace the weights by the header of 2 000 000 000 numbers that are not there."""
    tensor = {"dtype": "F32", "shape": [2, 10**9], "data_offsets": [0, 8 * 10**9]}
    header = json.dumps({"weight": tensor}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)


@pytest.mark.parametrize(("dtype", "needed"), [("float32", "8.0 GB"), ("float16", "4.0 GB")])
def test_a_model_that_cannot_fit_is_refused_with_both_sizes_before_its_weights_are_read(
    run: Run,
    tmp_path: Path,
    picture: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    dtype: str,
    needed: str,
) -> None:
    folder = tiny_models.build("llava", tmp_path / "model")
    with_huge_weights(folder)
    machine()
    little_memory(monkeypatch, 50_000_000)

    code, out, err = run("caption", picture, "-m", folder, "--dtype", dtype)

    # Had the weights been read first, their damage would be reported, not the memory.
    assert (code, out) == (5, "")
    assert f"needs about {needed} in {dtype}" in err and "cpu has 0.1 GB free" in err
    assert err.count("\n") == 1
