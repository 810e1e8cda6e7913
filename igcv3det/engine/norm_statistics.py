"""Restores the running statistics of folded batch normalisations.

Where an exporter has folded a normalisation into scale and shift, running mean 0 and variance 1 are
exact for inference. Training mode uses the batch's statistics instead, so the first training step
would compute another function. Here mean and variance are measured on images, and weight and bias
are adapted so that inference does not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def restore_statistics(
    network: nn.Module, norms: Sequence[nn.BatchNorm2d], batches: Iterable[Tensor]
) -> int:
    """Sets the running statistics of normalisations to those of their inputs, in place.

    With scale s and shift b before the call, the new weight is s sqrt(variance + eps) and the new
    bias b + s mean, so that the network in evaluation mode computes the same function.

    Args:
        network: is put in evaluation mode.
        norms: normalisations of the network to change; those that it does not run stay.
        batches: network inputs [B, 3, H, W]; some hundred images are enough.

    Returns:
        Number of images.

    Raises:
        ValueError: there are no images.
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
        if measured.count:
            _set_statistics(norm, *measured.mean_and_variance())
    return images


class _Moments:
    """Mean and variance of every channel; of a batch in float32, over batches in float64."""

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
        """Mean [C] and population variance [C], which is never negative."""
        mean = self.sum / self.count
        return mean, (self.squares / self.count - mean.square()).clamp(min=0)


def _set_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    old_mean, old_variance = norm.running_mean, norm.running_var
    assert old_mean is not None
    assert old_variance is not None
    scale = norm.weight.double() / (old_variance.double() + norm.eps).sqrt()
    shift = norm.bias.double() - scale * old_mean.double()
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.bias.copy_(shift + scale * mean)
    old_mean.copy_(mean)
    old_variance.copy_(variance)
