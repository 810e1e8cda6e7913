"""Muon for grouped 1x1 convolutions, AdamW for everything else, in one optimizer.

A 1x1 convolution has one matrix per group. Muon orthogonalises the momentum of each matrix before
it is applied, so that all its directions are updated at the same rate. Differs from PyTorch's
``torch.optim.Muon``: that takes two-dimensional parameters only.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
(kellerjordan.github.io/posts/muon): Newton-Schulz iteration, its coefficients, Nesterov momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Updates parameter groups with ``matrices`` by Muon, all others by AdamW.

    Args:
        groups: parameter groups, each with ``lr`` and ``weight_decay``. A group with ``matrices``
            holds weights of 1x1 convolutions [C', C / g, 1, 1], and ``matrices`` has g of each.
        momentum: Muon momentum.
        betas: AdamW's decay rates of mean and square.
        eps: AdamW's epsilon.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        defaults = {"momentum": momentum, "betas": betas, "eps": eps, "matrices": None}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group["matrices"] is None:
                self._step_adamw(group)
            else:
                self._step_muon(group)
        return loss

    def _step_muon(self, group: dict[str, Any]) -> None:
        pairs = zip(group["params"], group["matrices"], strict=True)
        updated = [(p, matrices) for p, matrices in pairs if p.grad is not None]
        if not updated:
            return
        parameters = [parameter for parameter, _ in updated]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {"momentum": torch.zeros_like(parameter)}
        grads = [parameter.grad for parameter in parameters]
        momenta = [self.state[parameter]["momentum"] for parameter in parameters]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        ahead = torch._foreach_lerp(grads, momenta, group["momentum"])
        # matrices of one shape together: a network has a hundred, in a dozen shapes, and a GPU is
        # bound by the launches of small products
        by_shape: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for (parameter, matrices), value in zip(updated, ahead, strict=True):
            stacked = value.reshape(matrices, value.shape[0] // matrices, -1)
            by_shape.setdefault((stacked.shape[1], stacked.shape[2]), []).append(
                (parameter, stacked)
            )
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        for (rows, columns), members in by_shape.items():
            stacks = [stacked for _, stacked in members]
            whole = orthogonalised(torch.cat(stacks))
            updates = torch.split(whole, [len(stack) for stack in stacks])
            # the step of an output has the same size whatever the shape of its matrix
            size = group["lr"] * max(1, rows / columns) ** 0.5
            targets = [parameter for parameter, _ in members]
            moves = [u.reshape(p.shape) for u, p in zip(updates, targets, strict=True)]
            torch._foreach_add_(targets, moves, alpha=-size)

    def _step_adamw(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros(()),
                    "mean": torch.zeros_like(parameter),
                    "square": torch.zeros_like(parameter),
                }
            self.state[parameter]["step"] += 1
        # parameters whose gradients began later have had fewer steps
        by_step: dict[int, list[Tensor]] = {}
        for parameter in parameters:
            by_step.setdefault(int(self.state[parameter]["step"]), []).append(parameter)
        for step, members in by_step.items():
            self._move_adamw(group, step, members)

    def _move_adamw(self, group: dict[str, Any], step: int, parameters: list[Tensor]) -> None:
        """Updates parameters that all had ``step`` gradients, this one included."""
        states = [self.state[parameter] for parameter in parameters]
        grads = [p.grad for p in parameters if p.grad is not None]
        means, squares = [s["mean"] for s in states], [s["square"] for s in states]
        beta1, beta2 = group["betas"]
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        deviations = torch._foreach_sqrt(torch._foreach_div(squares, 1 - beta2**step))
        torch._foreach_add_(deviations, group["eps"])
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_addcdiv_(parameters, means, deviations, -group["lr"] / (1 - beta1**step))


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices with the same singular vectors, and singular values near 1 (0.7 to 1.2).

    Args:
        matrices: [N, rows, columns] float32.

    Example:
        >>> values = torch.linalg.svdvals(orthogonalised(torch.eye(3)[None] * 5))
        >>> bool((values > 0.6).all() and (values < 1.3).all())
        True
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    transposed: Tensor = x.mT
    return transposed if is_tall else x
