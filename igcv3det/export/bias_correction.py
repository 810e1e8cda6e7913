"""Biases that make up for what 8-bit weights change, for quantisers that do not correct them.

Source and reason: `igcv3det.export.onnx_quantization`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from igcv3det.export.onnx_quantization import LEVELS, Array, mean_shift


def correct_biases(network: nn.Module, inputs: Iterable[Array]) -> None:
    """Subtracts from each convolution's bias what 8-bit weights add for the mean input, in place.

    Args:
        network: in evaluation mode, with folded norms; its convolutions have a bias.
        inputs: images as [1, 3, S, S].
    """
    sums: dict[nn.Conv2d, Tensor] = {}

    def add(conv: nn.Module, args: tuple[Tensor, ...]) -> None:
        assert isinstance(conv, nn.Conv2d)
        sums[conv] = sums.get(conv, torch.zeros(1)) + args[0].mean(dim=(0, 2, 3))

    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [conv.register_forward_pre_hook(add) for conv in convs]
    count = 0
    with torch.no_grad():
        for image in inputs:
            network(torch.from_numpy(image))
            count += 1
    for hook in hooks:
        hook.remove()
    for conv, total in sums.items():
        shift = mean_shift(conv.weight.numpy(force=True), (total / count).numpy(), LEVELS[8])
        bias = torch.zeros(len(shift)) if conv.bias is None else conv.bias
        conv.bias = nn.Parameter(bias - torch.from_numpy(shift), requires_grad=False)
