"""`python -m vlmcli.builtin.export`: a checkpoint -> the folder of a model."""

import argparse
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from vlmcli.builtin import checkpoints, model, tokens
from vlmcli.builtin.model import Pupil


def plain(pupil: Pupil) -> LlavaForConditionalGeneration:
    """The model alone, as transformers runs it."""
    weights = {key: value.clone() for key, value in pupil.model.state_dict().items()}
    weights[model.CONNECTOR] /= model.LOUDNESS
    made = model.build(tokens.build())
    made.load_state_dict(weights)
    return made


def write(pupil: Pupil, folder: Path) -> None:
    """Weights in bf16, configuration, tokenizer and processor, as any model of the Hub has them."""
    folder.mkdir(parents=True, exist_ok=True)
    plain(pupil).to(torch.bfloat16).save_pretrained(folder)
    model.save_processor(folder)
    (folder / "model.safetensors").chmod(0o644)  # the wheel ships it to everyone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("builtin-training"))
    parser.add_argument("--to", type=Path, default=Path(__file__).parent)
    options = parser.parse_args()
    pupil = Pupil(tokens.build())
    progress = checkpoints.load(options.folder / "checkpoint.pt", pupil)
    write(pupil, options.to)
    checkpoints.save_heads(options.to, pupil, progress)
    print(f"step {progress.step}, {progress.pictures} pictures -> {options.to}")


if __name__ == "__main__":
    main()
