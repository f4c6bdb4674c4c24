"""The accelerator, the number format and the memory."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vlmcli.errors import DeviceError, UsageError, VlmError
from vlmcli.models import catalog
from vlmcli.output import Finding, State
from vlmcli.settings import Settings

if TYPE_CHECKING:
    from vlmcli.device import Device

_GROUP = "device"


def findings(settings: Settings) -> Iterator[Finding]:
    """What a model would run on, and why; torch has to be in order."""
    try:
        yield from _device(settings)
    except VlmError as error:
        name = "dtype" if isinstance(error, UsageError) else "accelerator"
        yield Finding(_GROUP, name, error.message, State.PROBLEM, error.hint, error=error)
    except RuntimeError as error:  # a driver that was found, and then fails
        reason = str(error).partition("\n")[0]
        problem = DeviceError(f"torch cannot use its device: {reason}", hint="try --device cpu")
        yield Finding(
            _GROUP, "accelerator", problem.message, State.PROBLEM, problem.hint, error=problem
        )
    yield _cores()


def _device(settings: Settings) -> Iterator[Finding]:
    from vlmcli import device as devices

    chosen = devices.choose(settings.device, settings.dtype)
    devices.check_computes(chosen)
    total_bytes = devices.total_bytes(chosen.name)
    unused = devices.unused() if settings.device == "auto" else ""
    yield Finding(
        _GROUP,
        "accelerator",
        f"{chosen.name}: {unused or chosen.name_why}",
        State.WARNING if unused else State.OK,
        "https://pytorch.org/get-started/locally has the torch to install" if unused else "",
        {"device": chosen.name},
    )
    yield Finding(
        _GROUP,
        "dtype",
        f"{chosen.dtype_name}: {chosen.dtype_why}",
        facts={"dtype": chosen.dtype_name},
    )
    if chosen.name == "cpu":
        yield _kernels(chosen)
    needed = catalog.RECOMMENDED.memory_bytes
    short = chosen.free_bytes < needed
    yield Finding(
        _GROUP,
        "memory",
        f"{devices.gigabytes(chosen.free_bytes)} free of {devices.gigabytes(total_bytes)}",
        State.WARNING if short else State.OK,
        f"{catalog.RECOMMENDED.name} needs {devices.gigabytes(needed)}" if short else "",
        {"free_bytes": chosen.free_bytes, "total_bytes": total_bytes},
    )


def _kernels(device: "Device") -> Finding:
    from vlmcli import cpu

    speeds = cpu.speeds()
    return Finding(
        _GROUP,
        "int8",
        f"beside {speeds.in_words(device.dtype)}",
        facts={"microseconds": speeds.times},
    )


def _cores() -> Finding:
    present = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else present
    value = str(present) if usable == present else f"{usable} of {present}"
    return Finding(_GROUP, "CPU cores", value, facts={"usable": usable, "present": present})
