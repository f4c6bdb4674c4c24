"""The models that vlm recommends: a dated table. Nothing to import but the standard library."""

from collections.abc import Mapping
from dataclasses import dataclass

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
        """What it takes to run, in bf16."""
        return memory_for(self.weight_bytes)


def memory_for(weight_bytes: int) -> int:
    """What it takes to run: the weights, a quarter more, and 1 GiB for pictures and text."""
    return int(weight_bytes * HEADROOM) + HEADROOM_BYTES


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
