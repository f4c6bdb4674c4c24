"""How the weights are changed at each step: Muon for matrices, AdamW for the rest."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_TABLES = ("embed_tokens", "lm_head", "ideal.", "dense.", "fine.", "deep.", "place.", "projector")
"""In the names of matrices that look up, or that are thrown away."""


def optimizers_of(
    weights: Mapping[str, Tensor], rate: float, dtype: torch.dtype
) -> list[torch.optim.Optimizer]:
    """Muon, computing in `dtype`, for what multiplies, in which each step counts for more; AdamW
    for the rest."""

    def multiplies(name: str, weight: Tensor) -> bool:
        return weight.ndim == 2 and not any(table in name for table in _TABLES)

    matrices = [p for k, p in weights.items() if multiplies(k, p)]
    others = [p for k, p in weights.items() if not multiplies(k, p)]
    return [
        Muon(matrices, rate, dtype),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.01),
    ]


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal, as in torch.optim.Muon, which always computes in bf16: CPUs without
    instructions for that emulate it (15 s a step beside 3).

    https://kellerjordan.github.io/posts/muon/
    """

    def __init__(self, weights: Sequence[Tensor], lr: float, dtype: torch.dtype) -> None:
        settings = {"lr": lr, "momentum": 0.95, "weight_decay": 0.02, "dtype": dtype}
        super().__init__(list(weights), settings)

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                change = orthogonal(weight.grad.lerp(momentum, group["momentum"]), group["dtype"])
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                # As large as a step of AdamW's would be.
                weight.add_(change, alpha=-group["lr"] * 0.2 * max(weight.shape) ** 0.5)


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Nearly the orthogonal matrix nearest to this one: five steps of Newton and Schulz."""
    tall = matrix.size(0) > matrix.size(1)
    x: Tensor = matrix.T if tall else matrix
    x = (x / x.norm().clamp(min=1e-7)).to(dtype)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).to(matrix.dtype)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = rate
