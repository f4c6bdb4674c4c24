"""Where a training is, on disk."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import LlavaForConditionalGeneration

from vlmcli.builtin.model import CONNECTOR, LOUDNESS, Pupil

SHIPPED = Path(__file__).parent
"""The folder of the model that ships, from which a training without a checkpoint goes on."""
HEADS = "heads.pt"
"""In it, what the training throws away, and where it got to; not in the wheel."""
_MODEL = "model."


@dataclass(slots=True)
class Progress:
    """Where the training is; all of it is in the checkpoint."""

    step: int = 0
    stage: str = "look"
    level: float = 0.0
    char: float = 0.0
    pictures: int = 0
    seconds: float = 0.0
    asked: int = 0  # steps with questions
    copied: float = 0.0  # the share of short signs that the decoder spells right from the labels
    finished: float = 0.0  # from 0 to 1, of the last stretch


def save(path: Path, pupil: Pupil, progress: Progress) -> None:
    """Write a checkpoint whole or not at all, in half precision.

    The optimizers' moments are not in it: they are back after some tens of steps at a low rate.
    """
    _write(path, pupil.state_dict(), progress)


def load(path: Path, pupil: Pupil) -> Progress:
    """Go on from a checkpoint; without one, from the model that ships; without that, from nothing.

    A model that ships with no heads beside it is no start: they would all have to be learnt anew.
    """
    if path.exists():
        weights, progress = _read(path)
    elif (SHIPPED / HEADS).exists():
        weights, progress = _read(SHIPPED / HEADS)
        model = LlavaForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.float32)
        weights |= {f"{_MODEL}{key}": value for key, value in model.state_dict().items()}
        weights[f"{_MODEL}{CONNECTOR}"] *= LOUDNESS
    else:
        return Progress()
    own = pupil.state_dict()  # heads that a checkpoint has not yet begin anew
    pupil.load_state_dict(own | {key: value.float() for key, value in weights.items()})
    return progress


def save_heads(folder: Path, pupil: Pupil, progress: Progress) -> None:
    """What the training needs beside the model, to go on from it."""
    heads = {key: value for key, value in pupil.state_dict().items() if not key.startswith(_MODEL)}
    _write(folder / HEADS, heads, progress)


def _read(path: Path) -> tuple[dict[str, torch.Tensor], Progress]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    return state["weights"], Progress(**state["progress"])


def _write(path: Path, weights: dict[str, torch.Tensor], progress: Progress) -> None:
    halves = {k: value.to(torch.float16) if value.ndim else value for k, value in weights.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save({"weights": halves, "progress": asdict(progress)}, temporary)
    temporary.replace(path)
