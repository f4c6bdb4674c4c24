"""vlm, Python, the libraries, and the optional packages."""

import importlib
import platform
import re
from collections.abc import Iterator
from importlib import metadata

from vlmcli import __version__
from vlmcli.errors import DeviceError, InputError, ModelError, VlmError
from vlmcli.output import Finding, State

_GROUP = "software"
_DISTRIBUTION = "vlmcli"
_ONLY_FOR_US = ("test",)

# A library -> the module of ours that shows whether it works, and what cannot be done without it.
# The last one imports all others as well.
_NEEDED: tuple[tuple[str, str, type[VlmError]], ...] = (
    ("torch", "vlmcli.device", DeviceError),
    ("huggingface_hub", "vlmcli.hub", ModelError),
    ("pillow", "vlmcli.images", InputError),
    ("transformers", "vlmcli.backends.local.engine", ModelError),
)


def findings() -> Iterator[Finding]:
    """The versions of everything, and which of the libraries are broken."""
    yield Finding(_GROUP, "vlm", __version__)
    yield Finding(_GROUP, "Python", platform.python_version())
    yield Finding(_GROUP, "platform", platform.platform())
    unfit = ""
    for library, module, kind in _NEEDED:
        finding = _needed(library, module, kind)
        if finding.error and unfit and library == "transformers":
            finding = Finding(_GROUP, library, f"not checked: {unfit} is broken", State.WARNING)
        elif finding.error:
            unfit = library
        yield finding
    fault = import_fault("av")
    if fault:
        yield Finding(_GROUP, "av", fault, State.WARNING, "pip install --force-reinstall av")
    else:
        yield Finding(_GROUP, "av", _version("av"))
    if not unfit:
        yield _torchvision()


def _needed(library: str, module: str, kind: type[VlmError]) -> Finding:
    fault = import_fault(module)
    if not fault:
        return Finding(_GROUP, library, _version(library))
    hint = f"pip install --force-reinstall {library}"
    error = kind(f"{library} does not work: {fault}", hint=hint)
    return Finding(_GROUP, library, fault, State.PROBLEM, hint, error=error)


def import_fault(module: str) -> str:
    """What goes wrong when a module is imported, on one line; empty if nothing does."""
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # what a broken extension module raises is not a closed set
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return ""


def _torchvision() -> Finding:
    from vlmcli.backends.local import torchvision_fault

    if torchvision_fault:
        value = f"does not work, so it is left out: {torchvision_fault}"
        hint = "install the one made for this torch, or pip uninstall torchvision"
        return Finding(_GROUP, "torchvision", value, State.WARNING, hint)
    if import_fault("torchvision"):
        return Finding(_GROUP, "torchvision", "not installed; few models need it", State.NOTE)
    return Finding(_GROUP, "torchvision", _version("torchvision"))


def extras() -> Iterator[Finding]:
    """The optional parts of vlm, and what brings those that are missing."""
    try:
        declared = metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:  # run from a folder, never installed
        return
    for extra in declared:
        if extra in _ONLY_FOR_US:
            continue
        needed = _packages_of(extra)
        missing = [package for package in needed if not _is_installed(package)]
        facts = {"packages": needed, "missing": missing}
        if missing:
            hint = f"pip install '{_DISTRIBUTION}[{extra}]'"
            value = f"missing: {', '.join(missing)}"
            yield Finding("extras", extra, value, State.NOTE, hint, facts)
        else:
            yield Finding("extras", extra, ", ".join(needed), facts=facts)


def _packages_of(extra: str) -> list[str]:
    marker = re.compile(rf"extra\s*==\s*['\"]{re.escape(extra)}['\"]")
    wanted = (line for line in metadata.requires(_DISTRIBUTION) or [] if marker.search(line))
    names = (re.match(r"[\w.-]+", line) for line in wanted)
    return [name[0] for name in names if name and name[0] != _DISTRIBUTION]


def _version(package: str) -> str:
    return metadata.version(package) if _is_installed(package) else "version unknown"


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
