"""The optimiser: orthogonalised momentum for the convolutions' weights, AdamW for everything else."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from cars_rt.training.networks import Published


class Muon(torch.optim.Optimizer):
    """Momentum whose update of a weight (outputs, ...) is made orthogonal, so that all directions learn
    at one rate (Jordan et al., https://kellerjordan.github.io/posts/muon, 2024).

    Weights are seen as matrices (outputs, everything else); steps are scaled to an AdamW step's size
    (Liu et al., arXiv:2502.16982), so that both take the same learning rate. torch.optim.Muon takes
    matrices only, and no convolution.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum: Tensor = state["momentum"]
                momentum.lerp_(weight.grad, 1 - group["momentum"])
                update = weight.grad.lerp(momentum, group["momentum"])  # Nesterov's look ahead
                matrix = update.reshape(len(update), -1)
                size = 0.2 * max(matrix.shape) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonal(matrix).reshape(weight.shape), alpha=-group["lr"] * size)


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1, by five Newton-Schulz steps; same shape."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / (wide.norm() + 1e-12)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    result: Tensor = x.T if matrix.shape[0] > matrix.shape[1] else x
    return result


def optimizers(model: nn.Module, learning_rate: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the trunk's matrices, AdamW for biases, what meets the input and what gives the output.

    AdamW alone for the published networks, which used Adam: to make SpecNet's dense layer, 16,000 by 1000,
    orthogonal takes longer than the rest of a step."""
    ours = not isinstance(model, Published)
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        inner = ours and weight.ndim >= 2 and not name.startswith("head.") and min(weight.shape[:2]) > 1
        (matrices if inner else others).append(weight)
    adam = torch.optim.AdamW(others, learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay)
    return [adam, Muon(matrices, learning_rate, weight_decay)] if matrices else [adam]
