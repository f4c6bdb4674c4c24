"""`python -m vlmcli.builtin.export`: a checkpoint -> the folder of a model."""

import argparse
from pathlib import Path

import torch

from vlmcli.builtin import checkpoints, model, tokens
from vlmcli.builtin.model import Pupil


def write(pupil: Pupil, folder: Path) -> None:
    """Weights in bf16, configuration, tokenizer and processor, as any model of the Hub has them."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.clone() for key, value in pupil.model.state_dict().items()}
    plain = model.build(tokens.build())
    plain.load_state_dict(weights)
    plain.to(torch.bfloat16).save_pretrained(folder)
    model.save_processor(folder)
    (folder / "model.safetensors").chmod(0o644)  # the wheel ships it to everyone


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("builtin-training"))
    parser.add_argument("--to", type=Path, default=Path(__file__).parent)
    parser.add_argument(
        "--keep", action="store_true", help="no model: the checkpoint, stripped, beside the recipe"
    )
    options = parser.parse_args()
    if options.keep:
        checkpoints.strip(options.folder / "checkpoint.pt", checkpoints.KEPT)
        return
    pupil = Pupil(tokens.build())
    progress = checkpoints.load(options.folder / "checkpoint.pt", pupil)
    write(pupil, options.to)
    print(f"step {progress.step}, {progress.pictures} pictures -> {options.to}")


if __name__ == "__main__":
    main()
