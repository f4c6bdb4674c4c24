"""Which accelerator, in which number format, with how much memory, and why."""

import gc
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from vlmcli import cpu, memory
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
    name_why: str
    dtype_why: str
    free_bytes: int

    @property
    def dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    @property
    def why(self) -> str:
        """Both choices in words, for `-v`."""
        return f"{self.name} ({self.name_why}), {self.dtype_name} ({self.dtype_why})"


def choose(device: str = "auto", dtype: str = "auto") -> Device:
    """The device to run on, and why this one and in this number format.

    Raises DeviceError for an accelerator that is not here, UsageError for an unknown dtype.
    """
    if dtype != "auto" and dtype not in DTYPES:
        raise UsageError(f"--dtype: {dtype!r} is not one", hint=f"one of auto, {', '.join(DTYPES)}")
    present = available()
    if device == "auto":
        name, name_why = present[0], _why(present[0])
    else:
        name, name_why = _asked_for(device, present), "as asked"
    if dtype == "auto":
        chosen, dtype_why = _best_dtype(name)
    else:
        chosen, dtype_why = DTYPES[dtype], "as asked"
    return Device(
        name=name, dtype=chosen, name_why=name_why, dtype_why=dtype_why, free_bytes=free_bytes(name)
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


def unused() -> str:
    """Why a GPU that this machine has is not used, in words; empty if there is no such GPU."""
    if torch.cuda.is_available():
        return ""
    if shutil.which("nvidia-smi") or _NVIDIA_DRIVER.exists():
        kind, built, hiding = "NVIDIA", torch.version.cuda, "CUDA_VISIBLE_DEVICES"
    elif _AMD_DRIVER.exists():
        kind, built, hiding = "AMD", torch.version.hip, "HIP_VISIBLE_DEVICES"
    else:
        return ""
    if not built:
        return f"this torch is not built for the {kind} GPU that is here"
    if hiding in os.environ:
        return f"{hiding} hides the {kind} GPU"
    return f"the driver of the {kind} GPU does not suit this torch, which is built for {built}"


_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_AMD_DRIVER = Path("/dev/kfd")


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
    ratio = cpu.speeds().ratio(torch.bfloat16, torch.float32)
    if ratio >= cpu.CLEAR:
        return torch.bfloat16, f"measured here: {ratio:.1f} times as fast as float32"
    if 1 / ratio >= cpu.CLEAR:
        return torch.float32, f"measured here: {1 / ratio:.1f} times as fast as bfloat16"
    features = torch.cpu.get_capabilities()
    # Without instructions of its own, bfloat16 on a CPU is slower than float32, not faster.
    for feature in ("amx_bf16", "avx512_bf16", "bf16"):
        if features.get(feature):
            return torch.bfloat16, f"this CPU has {feature}"
    return torch.float32, "this CPU has no bfloat16 instructions"


def free_bytes(name: str) -> int:
    """What of a device's memory a model could have, now."""
    kind = name.partition(":")[0]
    if kind == "cuda":
        # What torch holds and does not use is free, too.
        unused = torch.cuda.memory_reserved(name) - torch.cuda.memory_allocated(name)
        return int(torch.cuda.mem_get_info(name)[0]) + unused
    if kind == "xpu":
        return int(torch.xpu.mem_get_info(name)[0])
    # Apple's GPU shares the machine's memory.
    return memory.main_free_bytes()


def total_bytes(name: str) -> int:
    """All memory of a device, as `Device.free_bytes` counts it."""
    kind = name.partition(":")[0]
    if kind == "cuda":
        return int(torch.cuda.mem_get_info(name)[1])
    if kind == "xpu":
        return int(torch.xpu.mem_get_info(name)[1])
    return memory.main_total_bytes()


def release() -> None:
    """Free what no model needs any more, on every accelerator, for the next one to have."""
    gc.collect()
    for kind in (torch.cuda, torch.xpu, torch.mps):
        if kind.is_available():
            kind.empty_cache()


def peak_bytes(name: str) -> int | None:
    """The most memory that this process had in tensors on an accelerator; None of main memory.

    Apple's GPU keeps no such count: it is what the process holds of it now, which never shrinks by
    itself.
    """
    kind = name.partition(":")[0]
    if kind == "cuda":
        return int(torch.cuda.max_memory_allocated(name))
    if kind == "xpu":
        return int(torch.xpu.max_memory_allocated(name))
    return int(torch.mps.driver_allocated_memory()) if kind == "mps" else None


def check_computes(device: Device) -> None:
    """Raise DeviceError if the device cannot so much as multiply two small matrices."""
    try:
        ones = torch.ones(8, 8, device=device.name, dtype=device.dtype)
        (ones @ ones).sum().item()
    except RuntimeError as error:  # a GPU too old or too new for this torch, a GPU that is taken
        reason = str(error).partition("\n")[0]
        hint = "is another program using it? --device cpu does without"
        raise DeviceError(f"{device.name} does not compute: {reason}", hint=hint) from error


def check_fits(needed_bytes: int, device: Device, model: str) -> None:
    """Raise DeviceError if a model would need more memory than there is."""
    if needed_bytes > device.free_bytes:
        raise DeviceError(
            f"{model} needs about {gigabytes(needed_bytes)} in {device.dtype_name},"
            f" and {device.name} has {gigabytes(device.free_bytes)} free",
            hint="take a smaller model, a smaller --dtype, or another --device",
        )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how torch or Python says that there is no memory left.

    On a CPU torch raises a plain RuntimeError, so only its text tells.
    """
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _OUT_OF_RAM in str(error)


_OUT_OF_RAM = "DefaultCPUAllocator"


def gigabytes(count: int) -> str:
    """A size as people write it: 1.2 GB."""
    return f"{count / 1e9:.1f} GB"
