"""Weights in eight and four bits, what is chosen by the clock, and what is refused."""

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from conftest import DATA, Run
from torch import nn
from transformers import AutoModelForImageTextToText

from vlmcli import caches, config, cpu
from vlmcli.backends.local import engine, quantize
from vlmcli.backends.local.kernels import Int4Linear, Int8Linear, PackedLinear
from vlmcli.cpu import kernels, measuring
from vlmcli.device import Device
from vlmcli.errors import DeviceError, ModelError

Tiny = Callable[[str], Path]

CHART, HIGHEST = DATA / "chart.png", "which bar is the highest?"
ON_CPU = Device("cpu", torch.bfloat16, "", "", 10**9)


def linear(out_features: int, in_features: int, *, bias: bool = True) -> nn.Linear:
    torch.manual_seed(out_features * in_features)
    return nn.Linear(in_features, out_features, bias=bias)


def int8(layer: nn.Linear, dtype: torch.dtype = torch.float32) -> Int8Linear:
    bias = None if layer.bias is None else layer.bias.detach()
    return Int8Linear(*kernels.to_int8(layer.weight.detach()), bias, dtype)


def int4(layer: nn.Linear, dtype: torch.dtype = torch.float32) -> Int4Linear:
    bias = None if layer.bias is None else layer.bias.detach()
    return Int4Linear(*kernels.to_int4(layer.weight.detach()), bias, dtype)


def error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make this a CPU on which products take as long as the test says, of whatever size."""

    def pretend(*, plain: float = 100, bfloat16: float | None = None, **kernels_us: float) -> None:
        times = {}
        for name in measuring.names():
            kernel, dtype, _ = name.split()
            us = plain if bfloat16 is None or dtype != "bfloat16" else bfloat16
            if kernel != measuring.PLAIN:
                us = kernels_us.get(kernel.replace("-", "_"), 100)
            times[name] = (us,) * len(measuring.SIZES)
        monkeypatch.setattr(cpu, "speeds", lambda: cpu.Speeds(times))

    return pretend


# --- the layers ---


@pytest.mark.parametrize("kernel", ["weight_only", "integer", "unpacked", "dynamic"])
@pytest.mark.parametrize("sizes", [(48, 64), (33, 17), (130, 80)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_layer_of_eight_bits_computes_nearly_the_same_whatever_is_fastest(
    measured: Callable[..., None], kernel: str, sizes: tuple[int, int], dtype: torch.dtype
) -> None:
    measured(**{kernel: 1})
    layer = linear(*sizes)
    small = int8(layer, dtype)
    with torch.inference_mode():
        for shape in ((1, 1), (1,), (2, 7), (3, 1), (1, 64)):
            x = torch.randn(*shape, sizes[1])
            y = small(x.to(dtype))
            assert (y.shape, y.dtype) == ((*shape, sizes[0]), dtype)
            assert error(y, layer(x)) < 0.03
        assert small(torch.empty(0, sizes[1], dtype=dtype)).shape == (0, sizes[0])


def test_a_row_of_large_numbers_does_not_cost_the_others_theirs() -> None:
    layer = linear(64, 64, bias=False)
    x = torch.randn(1, 8, 64)
    x[0, 3] *= 5000
    with torch.inference_mode():
        assert error(int8(layer)(x)[0, :3], layer(x)[0, :3]) < 0.03


@pytest.mark.parametrize("kernel", ["weight_only", "integer", "unpacked", "dynamic"])
def test_a_row_is_the_same_whatever_is_beside_it(
    measured: Callable[..., None], kernel: str
) -> None:
    measured(**{kernel: 1})
    layer = int8(linear(64, 64, bias=False))
    x = torch.randn(4, 64)
    others = torch.cat([x[:2], x[2:].abs() * 7])
    with torch.inference_mode():
        assert torch.equal(layer(x)[:2], layer(others)[:2])


@pytest.mark.parametrize("make", [int8, int4])
def test_a_row_of_zeros_gives_the_bias(make: Callable[[nn.Linear], PackedLinear]) -> None:
    layer = linear(64, 64)
    with torch.inference_mode():
        for rows in (1, 3):
            assert error(make(layer)(torch.zeros(rows, 64)), layer(torch.zeros(rows, 64))) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("out_features", [16, 80, 1104])
def test_a_layer_of_four_bits_computes_about_the_same(
    dtype: torch.dtype, out_features: int
) -> None:
    layer = linear(out_features, 96)
    small = int4(layer, dtype)
    with torch.inference_mode():
        for shape in ((1, 1), (2, 7)):
            x = torch.randn(*shape, 96)
            y = small(x.to(dtype))
            assert (y.shape, y.dtype) == ((*shape, out_features), dtype)
            assert error(y, layer(x)) < 0.12


@pytest.mark.parametrize("make", [int8, int4])
@pytest.mark.parametrize("bias", [True, False])
def test_layers_with_one_input_are_joined_and_go_on_alone(
    make: Callable[[nn.Linear], Any], bias: bool
) -> None:
    layers = [linear(size, 64, bias=bias) for size in (64, 128, 192)]
    small = [make(layer) for layer in layers]
    with torch.inference_mode():
        for count in (1, 5):
            x = torch.randn(1, count, 64)
            alone = [one(x) for one in small]
            whole = type(small[0]).joined([make(layer) for layer in layers])
            assert whole is not None
            assert torch.allclose(whole(x), torch.cat(alone, -1), atol=2e-3)
        small = [make(layer) for layer in layers]  # none of which was used yet
        joined = type(small[0]).joined(small)
        assert joined is not None
        for x in (torch.randn(1, 1, 64), torch.randn(2, 5, 64)):
            for one, layer in zip(small, layers, strict=True):
                assert one(x).shape == (*x.shape[:-1], layer.out_features)
                assert error(one(x), layer(x)) < 0.12
                assert torch.equal(small[0](x), joined(x)[..., :64])  # one of them twice
    assert all(not list(_tensors(one)) for one in small)


def _tensors(layer: PackedLinear) -> list[torch.Tensor]:
    """What a layer holds itself."""
    held = [value for value in vars(layer).values() if isinstance(value, torch.Tensor | tuple)]
    return [t for one in held for t in (one if isinstance(one, tuple) else (one,)) if t.numel()]


def test_an_input_that_changes_in_place_between_two_rounds_is_read_again() -> None:
    parts = [int8(linear(64, 64)), int8(linear(128, 64))]
    with torch.inference_mode():
        assert Int8Linear.joined(parts) is not None
        x = torch.randn(1, 64)
        before = [one(x) for one in parts]
        x.mul_(2)
        assert all(not torch.allclose(one(x), y) for one, y in zip(parts, before, strict=True))


def test_layers_that_were_used_are_joined_no_more(measured: Callable[..., None]) -> None:
    measured(dynamic=1)  # which has a copy of the weights, in an order of its own
    parts = [int8(linear(64, 64)), int8(linear(128, 64))]
    with torch.inference_mode():
        parts[0](torch.randn(1, 64))
    assert Int8Linear.joined(parts) is None


def test_layers_that_do_not_match_are_not_joined() -> None:
    assert Int8Linear.joined([int8(linear(64, 64)), int8(linear(64, 32))]) is None
    assert Int8Linear.joined([int8(linear(64, 64)), int8(linear(64, 64, bias=False))]) is None
    # Their outputs lie mixed in blocks of 64.
    assert Int4Linear.joined([int4(linear(16, 64)), int4(linear(64, 64))]) is None


# --- the model ---


class Tied(nn.Module):
    """An embedding that is the output head as well, a layer in two places, and a router."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(96, 64), linear(96, 64, bias=False)
        self.head.weight = self.embedding.weight
        self.one = self.other = linear(64, 64)
        self.odd, self.router = linear(64, 40), linear(4, 64)

    def get_decoder(self) -> nn.Module:
        return self

    def get_output_embeddings(self) -> nn.Module:
        return self.head


def test_an_embedding_stays_where_the_head_that_it_is_becomes_small() -> None:
    model = Tied()
    before, rows = model.embedding.weight.clone(), model.embedding.weight
    quantize.apply(model, "int8", "tied")
    assert isinstance(model.head, Int8Linear) and isinstance(model.odd, Int8Linear)
    assert model.one is model.other and type(model.router) is nn.Linear
    assert model.embedding.weight is rows and torch.equal(rows, before)


def test_four_bits_are_for_the_text_model_where_its_sizes_allow_them() -> None:
    model = Tied()
    quantize.apply(model, "int4", "tied")
    assert [type(one) for one in (model.one, model.odd, model.head)] == [
        Int4Linear,
        Int8Linear,
        Int8Linear,
    ]


def test_a_model_without_such_layers_says_so() -> None:
    with pytest.raises(ModelError, match="owner/name has no layers that could be"):
        quantize.apply(nn.Sequential(nn.Conv2d(3, 3, 3)), "int8", "owner/name")


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize(
    "family", ["idefics3", "qwen2_5_vl", "llava_next", "gemma3", "mllama", "florence2", "blip"]
)
def test_a_family_answers_in_fewer_bits(
    run: Run, tiny: Tiny, picture: Path, family: str, kind: str
) -> None:
    flags = ("-m", tiny(family), "--quantize", kind, "-n", 6, "--json")
    code, out, err = run("caption", picture, *flags)
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["new_tokens"] >= 1
    assert (record["settings"], record["quantize"]) == ({"quantize": kind, "max_tokens": 6}, kind)


def test_nothing_is_replaced_unless_it_is_asked_for(tiny: Tiny) -> None:
    settings = config.load({"model": str(tiny("idefics3"))})
    assert settings.quantize == "none"
    exact = engine.load(settings)
    assert (exact.quantize, exact.label.count("int8")) == ("none", 0)


def test_eight_bits_give_the_logits_of_the_model_nearly(tiny: Tiny) -> None:
    folder = tiny("idefics3")
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.arange(3, 40)[None]
    with torch.inference_mode():
        exact = model(input_ids=ids).logits
        quantize.apply(model, "int8", "tiny")
        found = model(input_ids=ids).logits
    assert 0 < error(found, exact) < 0.1


def test_the_built_in_model_answers_the_same_in_eight_bits_and_says_that_it_did(run: Run) -> None:
    asked = ("ask", CHART, HIGHEST, "-m", "builtin")
    exact = run(*asked)
    code, out, err = run(*asked, "--quantize", "int8", "--stats", "-v")
    assert (code, out) == (0, exact[1])
    assert "int8 weights" in err and "times as fast" in err
    code, out, err = run(*asked, "--quantize", "int8", "--dtype", "float32")
    assert (code, out, err) == (0, exact[1], "")


# --- what is asked for ---


def test_an_unknown_kind_is_refused_with_the_known_ones(run: Run, picture: Path) -> None:
    code, out, err = run("caption", picture, "--quantize", "int3")
    assert (code, out) == (2, "") and err.count("\n") == 1
    assert "--quantize: 'int3' is not one; one of none, int8, int4, auto" in err


def test_auto_takes_eight_bits_where_they_are_faster_and_tells(
    run: Run, measured: Callable[..., None]
) -> None:
    asked = ("ask", CHART, HIGHEST, "-m", "builtin", "--quantize", "auto", "--json")
    measured(plain=100, weight_only=40, integer=50)
    assert json.loads(run(*asked)[1])["quantize"] == "int8"
    measured(plain=100, weight_only=95, integer=120, unpacked=110)
    record = json.loads(run(*asked)[1])
    assert (record["quantize"], record["settings"]["quantize"]) == ("none", "auto")


def quantized_on_disk(folder: Path) -> Path:
    tiny_models.build("idefics3", folder)
    told = json.loads((folder / "config.json").read_text())
    told["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def test_a_model_that_is_quantized_already_is_left_alone(
    run: Run, picture: Path, tmp_path: Path, measured: Callable[..., None]
) -> None:
    folder = quantized_on_disk(tmp_path / "model")
    code, out, err = run("caption", picture, "-m", folder, "--quantize", "int8")
    assert (code, out) == (4, "") and err.count("\n") == 1
    assert "is quantized already; leave --quantize out" in err
    measured(weight_only=1, integer=1)
    settings = config.load({"quantize": "auto"})
    processor_config = type("Config", (), {"quantization_config": {"quant_method": "gptq"}})()
    kind = quantize.resolve(settings.quantize, ON_CPU)
    assert (kind, quantize.check(kind, "auto", processor_config, "owner/name")) == ("int8", "none")


def test_an_apple_gpu_is_told_what_works_instead() -> None:
    apple = Device("mps", torch.float16, "", "", 10**9)
    with pytest.raises(DeviceError, match="not on an Apple GPU; --device cpu can"):
        quantize.resolve("int8", apple)
    assert quantize.resolve("auto", apple) == quantize.resolve("none", apple) == "none"


def test_a_gpu_needs_a_package_and_the_error_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Device("cuda:1", torch.bfloat16, "", "", 10**9)
    monkeypatch.setattr(quantize, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="needs bitsandbytes and accelerate") as caught:
        quantize.resolve("int4", card)
    assert caught.value.hint == "pip install 'vlmcli[bnb]'"
    assert quantize.resolve("auto", card) == "none"


def test_a_gpu_loads_by_bitsandbytes_straight_to_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Device("cuda:1", torch.float16, "", "", 10**9)
    monkeypatch.setattr(quantize, "find_spec", lambda name: name)
    assert quantize.resolve("int8", card) == "int8"
    eight, four = (quantize.while_loading(kind, card) for kind in ("int8", "int4"))
    assert eight["device_map"] == four["device_map"] == {"": "cuda:1"}
    assert eight["quantization_config"].load_in_8bit
    config = four["quantization_config"]
    assert config.load_in_4bit and config.bnb_4bit_quant_type == "nf4"
    assert config.bnb_4bit_compute_dtype is torch.float16
    assert not quantize.while_loading("none", card) and not quantize.while_loading("int8", ON_CPU)


def test_fewer_bits_need_less_memory_and_the_check_knows(tiny: Tiny) -> None:
    folder = tiny("idefics3")
    told = AutoModelForImageTextToText.from_pretrained(folder).config

    def needed(kind: str, dtype: torch.dtype) -> int:
        return quantize.weight_bytes(folder, told, dtype, kind)

    stored = torch.float32  # of these files
    assert needed("int4", stored) < needed("int8", stored) < needed("none", stored)
    # All of it is in memory in another format before it is quantized.
    assert needed("int8", torch.bfloat16) == needed("none", torch.bfloat16)


# --- the measurement ---


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Any:
    """How often something was measured; before and after the test nothing is known."""
    times = {name: (1.0,) * len(measuring.SIZES) for name in measuring.names()}
    done: list[int] = []

    def measure() -> measuring.Times:
        done.append(1)
        return times

    monkeypatch.setattr(measuring, "measure", measure)
    cpu.forget()
    yield done
    cpu.forget()


def test_it_is_measured_once_on_a_machine(count: list[int]) -> None:
    first = cpu.speeds()
    assert cpu.speeds() is first and len(count) == 1
    cpu.forget()  # as another process
    assert cpu.speeds() == first and len(count) == 1
    (file,) = caches.folder().iterdir()
    assert json.loads(file.read_text())["machine"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:40],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace('"threads": ', '"threads": 9'),
        lambda text: text.replace("1.0", "-1.0", 1),
        lambda text: text.replace("1.0", "NaN", 1),
        lambda text: text.replace("plain", "plane", 1),
        lambda text: "[" * 100_000,
    ],
)
def test_a_damaged_or_foreign_file_is_measured_anew(
    count: list[int], damage: Callable[[str], str]
) -> None:
    cpu.speeds()
    (file,) = caches.folder().iterdir()
    file.write_text(damage(file.read_text()))
    cpu.forget()
    assert cpu.speeds().times["plain float32 1"] == (1.0,) * 3 and len(count) == 2
    cpu.forget()
    cpu.speeds()
    assert len(count) == 2  # it was written again


def test_a_folder_that_cannot_be_written_is_no_obstacle(
    count: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("VLM_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert cpu.speeds().times and len(count) == 1


def test_what_is_measured_is_whole_and_leaves_the_threads_as_they_were() -> None:
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(1) as pool:
        times = pool.submit(measuring.measure).result()
    assert times.keys() == measuring.names() and torch.get_num_threads() == threads
    assert all(0 < us < math.inf for row in times.values() for us in row)


def test_the_kernel_that_reads_past_a_row_is_never_taken_where_it_would(
    measured: Callable[..., None],
) -> None:
    measured(weight_only=1, integer=50)
    speeds = cpu.speeds()
    assert speeds.kernel(64, 64, torch.bfloat16, 1) == "weight-only"
    assert speeds.kernel(64, 40, torch.bfloat16, 1) == "integer"


def test_doctor_tells_what_eight_bits_gain_here(run: Run, measured: Callable[..., None]) -> None:
    measured(plain=100, weight_only=20, integer=50)
    _, out, _ = run("doctor", "--offline")
    (line,) = [line for line in out.splitlines() if " int8 " in line]
    assert "writes 5.0 times as fast (weight-only), reads 2.0 times as fast (integer)" in line
    found = json.loads(run("doctor", "--offline", "--json")[1])["device"]["int8"]
    assert found["microseconds"]["plain bfloat16 1"] == [100, 100, 100]
