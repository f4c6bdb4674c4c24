"""What a model's files say of it, without loading any: its kind, size, context, licence, template.

Standard library only, and read without a trace in when the files were last used.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmcli.memory import Memory
from vlmcli.models import catalog
from vlmcli.models.files import SAFE, count_numbers, read_config, read_quietly, set_of_weights

_FORMATS = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"} | {
    "F8_E4M3": "float8", "F8_E5M2": "float8", "I8": "int8", "U8": "uint8", "I64": "int64"
}  # fmt: skip
# Architectures that see and put no words after each other.
_MUTE = re.compile(
    r"(?<!EncoderDecoder)Model$|(Classification|Detection|Segmentation|Estimation|Retrieval|MIM)$"
)
_PARTS = ("vision_config", "vq_config", "encoder", "visual")
_SIGNS = ("image_token_id", "image_token_index", "image_size")


@dataclass(frozen=True, slots=True)
class Kind:
    """What type of model it is, with those of its parts, and whether it answers about pictures.

    `sees` is None where config.json does not tell.
    """

    name: str = ""
    vision: str = ""
    text: str = ""
    sees: bool | None = None


def kind_of(folder: Path) -> Kind:
    """What config.json says that the model is."""
    config = read_config(folder)
    if not config:
        return Kind()
    return Kind(
        name=_text(config.get("model_type")),
        vision=_type_of(config, "vision_config", "encoder"),
        text=_type_of(config, "text_config", "decoder", "llm_config"),
        sees=answers_about_pictures(config),
    )


def answers_about_pictures(config: Mapping[str, Any]) -> bool | None:
    """Whether a model with this config.json sees and speaks; None if it does not say."""
    if all(config.get(key) is None for key in (*_PARTS, *_SIGNS)):
        return False
    classes = config.get("architectures")
    return not all(_MUTE.search(str(name)) for name in classes) if classes else None


def context_tokens(folder: Path) -> int | None:
    """The longest prompt and answer together, if config.json says so."""
    config = read_config(folder)
    for part in (*(config.get(key) for key in ("text_config", "decoder", "llm_config")), config):
        for key in ("max_position_embeddings", "n_positions"):
            if isinstance(part, dict) and isinstance(found := part.get(key), int):
                return found
    return None


@dataclass(frozen=True, slots=True)
class Weights:
    """What the weights weigh; sizes in bytes. `numbers` is None where no header tells."""

    numbers: int | None
    formats: tuple[str, ...]
    disk_bytes: int


def weights_in(folder: Path) -> Weights:
    """The set of weights that would be loaded."""
    names = [file.name for file in folder.glob("*")]
    chosen = set_of_weights(names, SAFE) or set_of_weights(names, ".bin")
    disk_bytes = sum(_size(folder / name) for name in chosen)
    counts = count_numbers(folder)
    formats = sorted(counts, key=lambda name: -counts[name])
    return Weights(
        numbers=sum(counts.values()) or None,
        formats=tuple(_FORMATS.get(name, name) for name in formats),
        disk_bytes=disk_bytes,
    )


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def memory_bytes(weights: Weights, memory: Memory) -> int:
    """What it takes to run the model in this memory, by the rule of the recommended table."""
    whole = set(weights.formats) <= {"bfloat16", "float16", "float32", "float64", "int64"}
    if weights.numbers is None or not whole:  # quantized: they stay as they are
        return catalog.memory_for(weights.disk_bytes)
    return catalog.memory_for(weights.numbers * memory.weight_bytes)


def fits(needed_bytes: int, memory: Memory) -> str:
    """yes; tight, if there is room for the weights and hardly more; or no."""
    if needed_bytes <= memory.free_bytes:
        return "yes"
    weight_bytes = (needed_bytes - catalog.HEADROOM_BYTES) / catalog.HEADROOM
    return "tight" if weight_bytes <= memory.free_bytes else "no"


def licence_of(folder: Path) -> str:
    """The licence that the front matter of README.md names; empty if it names none."""
    try:
        text = read_quietly(folder / "README.md", 1 << 16).decode(errors="replace")
    except OSError:
        return ""
    front = re.match(r"---\s*\n(.*?)\n---\s*\n", text, re.DOTALL)
    if front is None:
        return ""
    said = dict(re.findall(r"^(license(?:_name)?):[ \t]*(\S.*?)\s*$", front[1], re.MULTILINE))
    named = said.get("license_name", "") if said.get("license") == "other" else ""
    return str(named or said.get("license", "")).strip("\"'")


def chat_template(folder: Path) -> str | None:
    """The template that turns a conversation into a prompt; None if the model has none."""
    try:
        return read_quietly(folder / "chat_template.jinja").decode()
    except (OSError, ValueError):
        pass
    for file in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        found = _json(folder / file).get("chat_template")
        if isinstance(found, list):  # several, by name
            named = {one.get("name"): one for one in found if isinstance(one, dict)}
            found = named.get("default", {}).get("template")
        if isinstance(found, str):
            return found
    return None


def _json(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(read_quietly(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _type_of(config: Mapping[str, Any], *keys: str) -> str:
    parts = (config.get(key) for key in keys)
    return next((_text(p.get("model_type")) for p in parts if isinstance(p, dict)), "")


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
