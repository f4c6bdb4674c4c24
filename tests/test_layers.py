"""Who may import whom: read from the syntax trees, so that nothing has to be imported."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import vlmcli

PACKAGE = Path(vlmcli.__file__).parent

# From the top; a file imports only from layers below its own. The root holds the version.
LAYERS = (
    "__main__ manual",
    "app",
    "commands",
    "server builtin",
    "chat",
    "answers diagnosis management",
    "forms",
    "backends records",
    "bulk wire index training inputs",
    "config output sources video hub device wording",
    "images",
    "models prompts",
    # Of these hub, … are made.
    "cpu",
    "apart caches configfile formats interrupts memory settings transcript web",
    "choices details schemas silence writing",
    "errors messages phases timecodes",
    "vlmcli",
)
LEVEL = {unit: -depth for depth, units in enumerate(LAYERS) for unit in units.split()}

# A third-party package -> the only places that may import it, for what it costs. A type checker's
# view costs nothing, so what stands under TYPE_CHECKING is free.
KEPT_TO = {
    "torch": ("cpu", "device", "backends.local", "index", "training", "builtin"),
    "rich": ("output",),
    "huggingface_hub": ("hub",),
    "prompt_toolkit": ("chat",),
    "pyarrow": ("bulk.parquet",),
}

Import = tuple[str, bool]  # the dotted name, and whether only a type checker sees it


def violations(package: Path) -> list[str]:
    """One line for every import that breaks a rule, as "vlmcli/x.py imports y, …"."""
    files = {module_of(file, package): file for file in sorted(package.rglob("*.py"))}
    return [
        f"{package.name}/{file.relative_to(package).as_posix()} imports {broken}"
        for module, file in files.items()
        for broken in broken_rules(module, file, frozenset(files), package.name)
    ]


def module_of(file: Path, package: Path) -> str:
    parts = file.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def broken_rules(module: str, file: Path, modules: frozenset[str], root: str) -> Iterator[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for name, typing_only in dict.fromkeys(imports(tree, modules, root)):
        top = name.partition(".")[0]
        if top == "":
            yield f"{name}, which is relative"
        elif top == root:
            if not may_import(module, name, root):
                yield f"{name}, which is not below it"
        elif top in KEPT_TO and not typing_only:
            places = [f"{root}.{place}" for place in KEPT_TO[top]]
            if not any(inside(module, place) for place in places):
                yield f"{name}, which belongs to {', '.join(places)}"


def imports(tree: ast.Module, modules: frozenset[str], root: str) -> Iterator[Import]:
    """What a file imports anywhere in it, and the modules of ours that it names in a text.

    Such a text is for importlib: an import like any other.
    """
    typed = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in node.body
        for inner in ast.walk(child)
    }
    for node in ast.walk(tree):
        seen_by_types_only = id(node) in typed
        if isinstance(node, ast.Import):
            yield from ((alias.name, seen_by_types_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                submodule = f"{source}.{alias.name}"
                yield (submodule if submodule in modules else source), seen_by_types_only
        elif isinstance(node, ast.Constant) and re.fullmatch(rf"{root}(\.\w+)+", str(node.value)):
            yield str(node.value), seen_by_types_only


def may_import(module: str, name: str, root: str) -> bool:
    """Whether `name` lies in a layer below `module`, or beside it in one and the same package."""
    unit, other = unit_of(module, root), unit_of(name, root)
    if unit != other:
        return LEVEL[unit] > LEVEL[other]
    siblings = module.rpartition(".")[0] == name.rpartition(".")[0]
    return siblings or inside(module, name) or inside(name, module)


def unit_of(module: str, root: str) -> str:
    """The name in LAYERS that a module counts under."""
    unit = root if module == root else module.split(".")[1]
    assert unit in LEVEL, f"{module} has no place in LAYERS: give it one"
    return unit


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


# --- the program ---


def test_every_file_imports_only_from_layers_below_its_own() -> None:
    assert violations(PACKAGE) == []


# --- the check itself ---


def tree(folder: Path, **sources: str) -> Path:
    """A package with the sources of some modules; `__` stands for a dot in their names."""
    package = folder / "vlmcli"
    for name, source in {"__init__": "", **sources}.items():
        dotted = name if name.startswith("__") else name.replace("__", "/", 1)
        file = package / f"{dotted}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
        if file.parent != package and not (file.parent / "__init__.py").exists():
            (file.parent / "__init__.py").write_text("")
    return package


@pytest.mark.parametrize(
    ("name", "source", "broken"),
    [
        ("hub", "from vlmcli import output", "vlmcli/hub.py imports vlmcli.output"),
        ("hub", "import vlmcli.app", "vlmcli/hub.py imports vlmcli.app"),
        ("errors", "from vlmcli.messages import Text", "vlmcli/errors.py imports vlmcli.messages"),
        ("wire", "def f():\n    from vlmcli import bulk", "vlmcli/wire.py imports vlmcli.bulk"),
        ("config", "import vlmcli.commands.ask", "vlmcli/config.py imports vlmcli.commands.ask"),
        (
            "images",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from vlmcli.hub import X",
            "vlmcli/images.py imports vlmcli.hub",
        ),
        ("hub", "PLACE = 'vlmcli.server'", "vlmcli/hub.py imports vlmcli.server"),
    ],
)
def test_an_import_from_above_or_from_beside_is_found_and_told(
    tmp_path: Path, name: str, source: str, broken: str
) -> None:
    others = {
        "output": "",
        "app": "",
        "messages": "",
        "bulk": "",
        "commands__ask": "",
        "server": "",
    }
    package = tree(tmp_path, **{**others, name: source})
    assert violations(package) == [f"{broken}, which is not below it"]


def test_one_backend_does_not_import_another(tmp_path: Path) -> None:
    package = tree(
        tmp_path,
        backends__openai="from vlmcli.backends.local import decode",
        **{"backends__local/__init__": "", "backends__local/decode": ""},
    )
    expected = "vlmcli/backends/openai.py imports vlmcli.backends.local.decode"
    assert violations(package) == [f"{expected}, which is not below it"]


@pytest.mark.parametrize(
    ("name", "source", "broken"),
    [
        ("images", "import torch", "vlmcli/images.py imports torch, which belongs to"),
        ("hub", "import torch.nn as nn", "vlmcli/hub.py imports torch.nn, which belongs to"),
        (
            "commands__ask",
            "def f():\n    from rich.console import Console",
            "vlmcli/commands/ask.py imports rich.console, which belongs to vlmcli.output",
        ),
        (
            "device",
            "from huggingface_hub import HfApi",
            "vlmcli/device.py imports huggingface_hub, which belongs to vlmcli.hub",
        ),
        ("hub", "from . import output", "vlmcli/hub.py imports ., which is relative"),
        ("hub", "from .output import x", "vlmcli/hub.py imports .output, which is relative"),
    ],
)
def test_a_package_outside_its_place_and_a_relative_import_are_found(
    tmp_path: Path, name: str, source: str, broken: str
) -> None:
    (found,) = violations(tree(tmp_path, **{name: source}))
    assert found.startswith(broken)


def test_a_file_without_a_layer_is_asked_for_one(tmp_path: Path) -> None:
    package = tree(tmp_path, errors="", utils="import vlmcli.errors")
    with pytest.raises(AssertionError, match=r"vlmcli\.utils has no place in LAYERS"):
        violations(package)


def test_what_the_rules_allow_is_not_reported(tmp_path: Path) -> None:
    package = tree(
        tmp_path,
        errors="",
        messages="import enum",
        config="from vlmcli.messages import Text\nfrom vlmcli import __version__",
        device="import torch\nfrom vlmcli.errors import E",
        output="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from torch import Tensor",
        commands__asking="",
        commands__ask="from vlmcli.commands import asking\nfrom vlmcli import config",
        **{
            "backends__local/__init__": "",
            "backends__local/decode": "import torch\nfrom vlmcli.backends import Engine",
            "backends__local/engine": "from vlmcli.backends.local import decode",
        },
        app="COMMANDS = {'ask': 'vlmcli.commands.ask'}",
    )
    assert violations(package) == []
