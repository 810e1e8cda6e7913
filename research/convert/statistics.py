"""Statistics for batch normalisation that came without any.

Where an exporter has folded the normalisation into scale and shift, running mean 0 and variance 1
are as good as any for inference. In training mode the batch's own statistics take their place, and
as those are not 0 and 1, the first step would already run another network. Measured on real
images, mean and variance go where they belong, and weight and bias take up the difference:
inference stays as it was, and training continues from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def restore_statistics(
    network: nn.Module, norms: Sequence[nn.BatchNorm2d], batches: Iterable[Tensor]
) -> int:
    """Measures what enters each normalisation and makes that its running statistics, in place.

    With scale s and shift b at the time of the call, the new weight is s sqrt(variance + eps) and
    the new bias b + s mean, so that the network in evaluation mode computes the same as before.

    Args:
        network: run in evaluation mode; left in it.
        norms: those of its normalisations to change.
        batches: images [B, 3, H, W] as the network takes them; some hundred are enough.

    Returns:
        How many images were seen.

    Raises:
        ValueError: there are none.
    """
    moments = {norm: _Moments(norm.num_features) for norm in norms}
    hooks = [
        norm.register_forward_pre_hook(lambda norm, inputs: moments[norm].update(inputs[0]))
        for norm in norms
    ]
    images = 0
    network.eval()
    try:
        for batch in batches:
            network(batch)
            images += len(batch)
    finally:
        for hook in hooks:
            hook.remove()
    if images == 0:
        raise ValueError("statistics need images, got none")
    for norm, measured in moments.items():
        _move(norm, *measured.mean_and_variance())
    return images


class _Moments:
    """Sums over the values of every channel; batch by batch in float32, together in float64."""

    def __init__(self, channels: int) -> None:
        self.count = 0
        self.sum = torch.zeros(channels, dtype=torch.float64)
        self.squares = torch.zeros(channels, dtype=torch.float64)

    def update(self, values: Tensor) -> None:
        """Adds [B, C, H, W]."""
        count = values.numel() // values.shape[1]
        variance, mean = (v.cpu().double() for v in torch.var_mean(values, (0, 2, 3), correction=0))
        self.count += count
        self.sum += count * mean
        self.squares += count * (variance + mean.square())

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """[C] each; the variance is that of the population, never negative."""
        mean = self.sum / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


def _move(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    old_mean, old_variance = norm.running_mean, norm.running_var
    assert old_mean is not None
    assert old_variance is not None
    scale = norm.weight.double() / (old_variance.double() + norm.eps).sqrt()
    shift = norm.bias.double() - scale * old_mean.double()
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(shift + scale * mean)
    old_mean.copy_(mean)
    old_variance.copy_(variance)
