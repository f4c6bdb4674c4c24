"""The models that vlm recommends, the names that a user can type, and the files that make a model.

Nothing to import but the standard library: shell completion is made of this file.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vlmcli.errors import ModelError, UsageError

AUTO = "auto"
BUILTIN = "builtin"
MAIN = "main"
FORMS = "a model is a folder with a config.json, owner/name[@revision] on the Hub, or auto"

HEADROOM = 1.25
HEADROOM_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Row:
    """A recommended model: its Hub name, its short names, what it weighs and what it is good at.

    `weight_bytes` is all weights in bf16, in memory; `gated` models ask for a licence click first.
    """

    name: str
    aliases: tuple[str, ...]
    weight_bytes: int
    good_at: str
    licence: str
    gated: bool = False

    @property
    def memory_bytes(self) -> int:
        """What it takes to run: the weights, a quarter more, and 1 GiB for pictures and text."""
        return int(self.weight_bytes * HEADROOM) + HEADROOM_BYTES


# 2026-11. Sizes are approximations: parameters times two bytes, rounded. A repo that stores float32
# downloads twice that. Best first: `auto` takes the first that fits and is cached.
MODELS = (
    Row(
        "Qwen/Qwen3-VL-8B-Instruct",
        ("qwen3-vl-8b",),
        17_500_000_000,
        "documents, charts, many languages, video; the best here",
        "Apache-2.0",
    ),
    Row(
        "Qwen/Qwen3-VL-4B-Instruct",
        ("qwen3-vl", "qwen3-vl-4b"),
        8_900_000_000,
        "documents, charts, many languages, video",
        "Apache-2.0",
    ),
    Row(
        "google/gemma-3-4b-it",
        ("gemma3", "gemma3-4b"),
        8_600_000_000,
        "descriptions and conversation in many languages",
        "Gemma terms of use",
        gated=True,
    ),
    Row(
        "Qwen/Qwen3-VL-2B-Instruct",
        ("qwen3-vl-2b",),
        4_300_000_000,
        "text in pictures and many languages on a small GPU",
        "Apache-2.0",
    ),
    Row(
        "HuggingFaceTB/SmolVLM2-2.2B-Instruct",
        ("smolvlm2",),
        4_500_000_000,
        "photos, several pictures at once and video, in English",
        "Apache-2.0",
    ),
    Row(
        "HuggingFaceTB/SmolVLM-Instruct",
        ("smolvlm-2b",),
        4_500_000_000,
        "photos and documents, in English",
        "Apache-2.0",
    ),
    Row(
        "llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        ("llava-onevision",),
        1_800_000_000,
        "photos, several pictures at once and video",
        "Apache-2.0",
    ),
    Row(
        "HuggingFaceTB/SmolVLM-500M-Instruct",
        ("smolvlm", "smolvlm-500m"),
        1_000_000_000,
        "captions and short answers in English, without a GPU",
        "Apache-2.0",
    ),
    Row(
        "HuggingFaceTB/SmolVLM-256M-Instruct",
        ("smolvlm-256m",),
        500_000_000,
        "captions in English; the smallest download",
        "Apache-2.0",
    ),
)

# What `auto` downloads where nothing is cached. Nobody asked for it by name, so it has to be small
# (1 GB), free to use, and bearable without a GPU. The 256M would save half a gigabyte and cost more
# in wrong answers than that is worth.
RECOMMENDED = next(row for row in MODELS if row.name == "HuggingFaceTB/SmolVLM-500M-Instruct")

ALIASES: Mapping[str, str] = {alias: row.name for row in MODELS for alias in row.aliases}


def resolve_alias(name: str) -> str:
    """The Hub name that a short name stands for; any other name as it is."""
    return ALIASES.get(name, name)


def cache_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """The Hub cache that every Hugging Face program on this machine shares.

    Follows huggingface_hub.constants, which takes too long to import for a shell completion.
    """
    caches = environment.get("XDG_CACHE_HOME", "~/.cache")
    home = environment.get("HF_HOME", f"{caches}/huggingface")
    legacy = environment.get("HUGGINGFACE_HUB_CACHE", f"{home}/hub")
    folder = environment.get("HF_HUB_CACHE", legacy)
    return Path(os.path.expandvars(folder)).expanduser()


def cached_names(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Hub names (owner/name) of which the cache holds a snapshot, whole or not, in order."""
    names = []
    for snapshots in cache_folder(environment).glob("models--*--*/snapshots"):
        try:
            if any(snapshots.iterdir()):
                names.append(snapshots.parent.name.removeprefix("models--").replace("--", "/"))
        except OSError:  # not ours to read: nothing that can be loaded
            continue
    return sorted(names)


def local_folder(name: str) -> Path | None:
    """The folder of that name if it holds a model; None if the name can be another thing's.

    Raises ModelError if it can only be a folder's, and no model is there.
    """
    # os.path: what Path does raises for ~nobody, and for a name that is too long.
    folder = Path(os.path.expanduser(name))  # noqa: PTH111
    if os.path.isfile(folder / "config.json"):  # noqa: PTH113
        return folder
    is_path = _PATH.match(name) is not None
    is_word = name == folder.name and name not in (AUTO, BUILTIN, *ALIASES)
    if (is_path or is_word) and os.path.isdir(folder):  # noqa: PTH112
        raise ModelError(f"{name} holds no model: config.json is missing", hint=FORMS)
    if is_path:
        raise ModelError(f"no such folder: {name}", hint=FORMS)
    return None


def hub_name(typed: str, revision: str | None = None) -> tuple[str, str]:
    """The Hub name and the revision that `owner/name`, `owner/name@revision` or an alias means.

    Raises UsageError if `revision` is another one, ModelError if that cannot be a name.
    """
    repo, _, suffix = typed.partition("@")
    if suffix and revision not in (None, suffix):
        raise UsageError(f"{typed} and --revision {revision}: two revisions", hint="name one")
    repo = resolve_alias(repo)
    revision = suffix or revision or MAIN
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise ModelError(f"no model is called {typed!r}", hint=nearest(repo) or FORMS)
    if not re.fullmatch(r"\w[\w./+-]*", revision) or ".." in revision:
        raise ModelError(f"{revision!r} is not a branch, a tag or a commit")
    return repo, revision


_PATH = re.compile(r"(~[^/\\]*|\.\.?)?[/\\]|[A-Za-z]:[/\\]|(\.\.?|~)$|.*[/\\]$")


def nearest(name: str) -> str:
    """A hint that names the known models most like this one; empty if none is."""
    known = dict.fromkeys([*ALIASES, *ALIASES.values(), *cached_names()])
    near = difflib.get_close_matches(name, known, n=2)
    return f"did you mean {' or '.join(near)}?" if near else ""


def completions(prefix: str) -> list[str]:
    """Every name of a model that starts so: short names, the two special ones, and cached ones."""
    names = (AUTO, BUILTIN, *ALIASES, *cached_names())
    return [name for name in names if name.startswith(prefix)]


_TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
_COPY = re.compile(r"consolidated|model\.(fp16|bf16|fp32|int8|non_ema)[.-]")


def wanted_files(files: Iterable[str]) -> list[str]:
    """Of a repo's files, those that inference needs: one set of safetensors, and texts.

    Only those at the top, and additional chat templates: other folders hold other formats,
    checkpoints and copies. No code and no pickles.
    """
    files = list(files)
    top = [file for file in files if "/" not in file]
    weights = [file for file in top if file.endswith(".safetensors")]
    if "model.safetensors" in weights:  # what transformers looks for before any shards
        weights = ["model.safetensors"]
    else:
        weights = [file for file in weights if not _COPY.match(file)] or weights
    texts = [file for file in top if file.endswith(_TEXTS)]
    templates = [file for file in files if file.startswith("additional_chat_templates/")]
    return texts + templates + weights


def holds_weights(folder: Path) -> bool:
    """True if every safetensors file of the model is there: one, or all that the index names."""
    if (folder / "model.safetensors").is_file():
        return True
    try:
        index = json.loads((folder / "model.safetensors.index.json").read_bytes())
        shards = set(index["weight_map"].values())
    except FileNotFoundError:
        return any(file.is_file() for file in folder.glob("*.safetensors"))
    except (ValueError, LookupError, TypeError, AttributeError):  # cut short
        return False
    return all((folder / shard).is_file() for shard in shards)
