"""How much memory a model could have here, told without torch, whose import takes seconds.

`vlmcli.device` asks torch, and is right where the two differ.
"""

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup")
_OWN_BFLOAT16 = {"amx_bf16", "avx512_bf16", "bf16"}


@dataclass(frozen=True, slots=True)
class Memory:
    """Where a model would run, what is free there, in bytes, and how wide a weight is there."""

    place: str
    free_bytes: int
    weight_bytes: int = 2


def here() -> Memory:
    """The memory of the first NVIDIA or AMD card that this torch can use, or else the main one."""
    torch = _torch_version()
    if "+cpu" not in torch and (free := _nvidia_free_bytes()) is not None:
        return Memory("the GPU", free)
    if "+rocm" in torch and (free := _amd_free_bytes()) is not None:
        return Memory("the GPU", free)
    return Memory("main memory", main_free_bytes(), _cpu_weight_bytes())


def _torch_version() -> str:
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""


def main_free_bytes() -> int:
    """Of the machine, or of the container that this runs in: psutil sees only the machine."""
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        return min(free, _container_bytes() - int((_CONTAINER / "memory.current").read_text()))
    except OSError:
        return free


def main_total_bytes() -> int:
    """As `main_free_bytes`, with what is taken."""
    import psutil

    return min(int(psutil.virtual_memory().total), _container_bytes())


def peak_bytes() -> int:
    """The most main memory that this process had at once, with what it shares with others."""
    with suppress(OSError, LookupError):
        # Of Linux. ru_maxrss begins with what the process had before it became this program.
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _container_bytes() -> int:
    try:
        limit = (_CONTAINER / "memory.max").read_text().strip()
    except OSError:
        return sys.maxsize
    return sys.maxsize if limit == "max" else int(limit)


def _cpu_weight_bytes(described: Path = Path("/proc/cpuinfo")) -> int:
    """4 (float32) on a CPU without bfloat16 instructions, where bfloat16 is slower; else 2."""
    try:
        with described.open() as lines:
            features = next((line for line in lines if line.lower().startswith(_FEATURES)), "")
    except OSError:  # not Linux: Apple's GPU takes half as much
        return 2
    return 2 if _OWN_BFLOAT16 & set(features.split()) else 4


_FEATURES = ("flags", "features")


class _NvidiaMemory(ctypes.Structure):
    """nvmlMemory_t: https://docs.nvidia.com/deploy/nvml-api/structnvmlMemory__t.html"""

    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


def _nvidia_free_bytes() -> int | None:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if visible in ("", "-1"):
        return None
    number = int(visible) if visible.isdecimal() else 0
    try:
        nvml = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None
    card, memory = ctypes.c_void_p(), _NvidiaMemory()
    failed = (
        nvml.nvmlInit_v2()
        or nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(card))
        or nvml.nvmlDeviceGetMemoryInfo(card, ctypes.byref(memory))
    )
    return None if failed else memory.free


def _amd_free_bytes(cards: Path = Path("/sys/class/drm")) -> int | None:
    for total in sorted(cards.glob("card*/device/mem_info_vram_total")):
        try:
            used = total.with_name("mem_info_vram_used").read_text()
            return int(total.read_text()) - int(used)
        except (OSError, ValueError):
            continue
    return None
