"""Which accelerator, in which number format, with how much memory, and why."""

import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from vlmcli.errors import DeviceError, UsageError

DTYPES = {
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float32": torch.float32,
    "fp32": torch.float32,
}


@dataclass(frozen=True, slots=True)
class Device:
    """Where a model runs: `name` as torch spells it; `free_bytes` of its memory, now."""

    name: str
    dtype: torch.dtype
    why: str
    free_bytes: int

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


def choose(device: str = "auto", dtype: str = "auto") -> Device:
    """The device to run on; `why` explains both choices in words for `-v`.

    Raises DeviceError for an accelerator that is not here, UsageError for an unknown dtype.
    """
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"--dtype: {dtype!r} is not one", hint=f"one of auto, {', '.join(DTYPES)}")
    present = available()
    if device == "auto":
        name, device_why = present[0], _why(present[0])
    else:
        name, device_why = _asked_for(device, present), "as asked"
    if dtype == "auto":
        chosen, dtype_why = _best_dtype(name)
    else:
        chosen, dtype_why = DTYPES[dtype], "as asked"
    return Device(
        name=name,
        dtype=chosen,
        why=f"{name} ({device_why}), {str(chosen).removeprefix('torch.')} ({dtype_why})",
        free_bytes=_free_bytes(name),
    )


def available() -> tuple[str, ...]:
    """The kinds of device that torch can use here, fastest first; always ends with cpu."""
    present = {
        "cuda": torch.cuda.is_available(),  # ROCm calls itself cuda too
        "xpu": torch.xpu.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    return tuple(name for name, here in present.items() if here)


def _why(name: str) -> str:
    if name == "cuda":
        kind = "ROCm" if torch.version.hip else "CUDA"
        return f"{kind}: {torch.cuda.get_device_name()}"
    if name == "xpu":
        return f"XPU: {torch.xpu.get_device_name()}"
    return {"mps": "Apple GPU", "cpu": "no accelerator that torch can use"}[name]


def _asked_for(device: str, present: tuple[str, ...]) -> str:
    kind, _, index = device.lower().partition(":")
    kind = "cuda" if kind == "rocm" else kind
    here = f"here: {', '.join(present)}"
    if kind not in present:
        raise DeviceError(f"--device {device}: torch finds none on this machine", hint=here)
    if not index:
        return kind
    count = {"cuda": torch.cuda.device_count, "xpu": torch.xpu.device_count}.get(kind, lambda: 1)()
    if not index.isdecimal() or int(index) >= count:
        raise DeviceError(f"--device {device}: there are {count}, counted from 0", hint=here)
    return f"{kind}:{int(index)}"


def _best_dtype(name: str) -> tuple[torch.dtype, str]:
    kind = name.partition(":")[0]
    if kind == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16, "this GPU computes in it"
        return torch.float16, "this GPU has no bfloat16"
    if kind == "xpu":
        return torch.bfloat16, "this GPU computes in it"
    if kind == "mps":
        return torch.float16, "bfloat16 is emulated on older Apple GPUs"
    features = torch.cpu.get_capabilities()
    # Without instructions of its own, bfloat16 on a CPU is slower than float32, not faster.
    for feature in ("amx_bf16", "avx512_bf16", "bf16"):
        if features.get(feature):
            return torch.bfloat16, f"this CPU has {feature}"
    return torch.float32, "this CPU has no bfloat16 instructions"


def _free_bytes(name: str) -> int:
    kind = name.partition(":")[0]
    if kind == "cuda":
        return int(torch.cuda.mem_get_info(name)[0])
    if kind == "xpu":
        return int(torch.xpu.mem_get_info(name)[0])
    # Apple's GPU shares the machine's memory.
    return min(int(psutil.virtual_memory().available), _container_free_bytes())


def _container_free_bytes(group: Path = Path("/sys/fs/cgroup")) -> int:
    """What a container may still take; psutil sees only the whole machine."""
    try:
        limit = (group / "memory.max").read_text().strip()
        used = (group / "memory.current").read_text().strip()
    except OSError:
        return sys.maxsize
    return sys.maxsize if limit == "max" else int(limit) - int(used)


def check_fits(needed_bytes: int, device: Device, model: str) -> None:
    """Raise DeviceError if a model would need more memory than there is."""
    if needed_bytes > device.free_bytes:
        raise DeviceError(
            f"{model} needs about {gigabytes(needed_bytes)} in {device.dtype_name},"
            f" and {device.name} has {gigabytes(device.free_bytes)} free",
            hint="take a smaller model, a smaller --dtype, or another --device",
        )


def gigabytes(count: int) -> str:
    """A size as people write it: 1.2 GB."""
    return f"{count / 1e9:.1f} GB"
