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
            for weights in _alike(group["params"]):
                for weight in weights:
                    if not self.state[weight]:
                        self.state[weight]["momentum"] = torch.zeros_like(weight)
                gradients = [weight.grad for weight in weights if weight.grad is not None]
                momenta = [self.state[weight]["momentum"] for weight in weights]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                updates = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov's look ahead
                matrices = torch.stack([update.reshape(len(update), -1) for update in updates])
                size = 0.2 * max(matrices.shape[1:]) ** 0.5
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
                changes = [each.view_as(weights[0]) for each in orthogonal(matrices)]
                torch._foreach_add_(weights, changes, alpha=-group["lr"] * size)


def _alike(weights: list[Tensor]) -> list[list[Tensor]]:
    """Weights that have a gradient, by shape: those of one shape take one step together."""
    found: dict[torch.Size, list[Tensor]] = {}
    for weight in weights:
        if weight.grad is not None:
            found.setdefault(weight.shape, []).append(weight)
    return list(found.values())


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values near 1, by five Newton-Schulz steps; (n, rows, columns) to
    the same shape."""
    tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if tall else matrices
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-12)
    for _ in range(5):
        square = x @ x.mT
        x = torch.baddbmm(
            x, torch.baddbmm(square, square, square, beta=-4.7750, alpha=2.0315), x, beta=3.4445
        )
    result: Tensor = x.mT if tall else x
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
