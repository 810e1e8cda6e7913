"""The last stages of a backbone at stride 16 instead of 32, with dilated convolutions.

Source: Chen et al., "Rethinking Atrous Convolution", arXiv 1706.05587, section 3.1.
"""

from __future__ import annotations

import math

from torch import nn

from igcv3det.models.igcv3 import IGCV3, IMAGENET_STRIDES
from igcv3det.models.mobilenetv2 import TAP_BLOCK, MobileNetV2

OUTPUT_STRIDE_16 = (*IMAGENET_STRIDES[:6], 1, IMAGENET_STRIDES[7])
"""Strides of the stem and of the seven stages, to build such a backbone with."""
assert math.prod(OUTPUT_STRIDE_16) == 16


def dilate_last_stages(backbone: nn.Module) -> None:
    """Dilates the depthwise convolutions after that whose stride was left out, in place.

    With the weights of the backbone at stride 32, every second row and column of the feature map
    is that backbone's own.

    Args:
        backbone: an `IGCV3` or `MobileNetV2` built with ``OUTPUT_STRIDE_16``.
    """
    if isinstance(backbone, IGCV3):
        blocks = list(backbone.blocks)[backbone.tap_block + 1 :]
    else:
        assert isinstance(backbone, MobileNetV2)
        blocks = list(backbone.features)[TAP_BLOCK + 1 :]
    for block in blocks:
        for conv in block.modules():
            if isinstance(conv, nn.Conv2d) and conv.kernel_size == (3, 3):
                conv.dilation, conv.padding = (2, 2), (2, 2)
