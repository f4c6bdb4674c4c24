"""Where a training is, on disk: small enough to be kept beside the code."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmcli.builtin.model import Pupil

KEPT = Path(__file__).parent / "checkpoint.pt"
"""Where the last training that was worth keeping got to, stripped; not in the wheel."""


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


def save(path: Path, pupil: Pupil, optimizer: torch.optim.AdamW, progress: Progress) -> None:
    """Write a checkpoint whole or not at all, in half precision: it is kept beside the code."""

    def half(value: Any, to: torch.dtype) -> Any:
        return value.to(to) if isinstance(value, Tensor) and value.ndim > 0 else value

    moments = optimizer.state_dict()["state"]
    state = {
        "weights": {k: half(v, torch.float16) for k, v in pupil.state_dict().items()},
        "moments": {
            i: {k: half(v, torch.bfloat16) for k, v in kept.items()} for i, kept in moments.items()
        },
        "progress": asdict(progress),
    }
    _write(state, path)


def _write(state: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)


def strip(path: Path, to: Path) -> None:
    """Write a checkpoint without the optimizer's moments: a third of the size, to be kept."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    state.pop("moments", None)
    _write(state, to)


def load(path: Path, pupil: Pupil, optimizer: torch.optim.AdamW | None = None) -> Progress:
    """Go on from a checkpoint, if there is one; a stripped one leaves the optimizer as it is."""
    if not path.exists():
        return Progress()
    state = torch.load(path, map_location="cpu", weights_only=True)
    pupil.load_state_dict({key: value.float() for key, value in state["weights"].items()})
    if optimizer is not None and "moments" in state:
        whole = optimizer.state_dict()
        optimizer.load_state_dict({**whole, "state": state["moments"]})
    return Progress(**state["progress"])
