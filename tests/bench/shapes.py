"""A model of SmolVLM-256M's shapes with random weights: its cost is real, what it says is not.

It is built here, so that the figures can be had where no model can be fetched.
"""

import json
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file, save_file

from tests import tiny_models

# https://huggingface.co/HuggingFaceTB/SmolVLM-256M-Instruct: config.json, preprocessor_config.json
_TEXT = {
    "dtype": "bfloat16",
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "head_dim": 64,
    "vocab_size": 49280,
    "max_position_embeddings": 8192,
}
_VISION = {
    "dtype": "bfloat16",
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "image_size": 512,
    "patch_size": 16,
}
_IMAGES = {
    "size": {"longest_edge": 2048},
    "max_image_size": {"longest_edge": 512},
    "resample": 1,
    "do_image_splitting": True,
    "do_pad": True,
}


def smolvlm_256m(folder: Path) -> Path:
    """Write the model into `folder`, 510 MB in bfloat16, if it is not there; returns `folder`."""
    if (folder / "chat_template.jinja").exists():  # the last file that is written
        return folder
    family = tiny_models.FAMILIES["idefics3"]
    config = {
        **family.config,
        "dtype": "bfloat16",
        "scale_factor": 4,
        "text_config": {**family.config["text_config"], **_TEXT},
        "vision_config": {**family.config["vision_config"], **_VISION},
    }
    shaped = replace(
        family,
        config=config,
        images={**family.images, **_IMAGES},
        processor={**family.processor, "image_seq_len": 64},
    )
    tiny_models.write(shaped, folder, seed=0, max_shard_bytes=10**9)
    _without_end(folder)
    return folder


def _without_end(folder: Path) -> None:
    """No answer is to end early: the tokens that would end it are as unlikely as can be."""
    file = folder / "model.safetensors"
    weights = load_file(file)
    settings = json.loads((folder / "generation_config.json").read_bytes())
    weights["lm_head.weight"][settings["eos_token_id"]] = 0
    save_file(weights, file, {"format": "pt"})
