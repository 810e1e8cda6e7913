"""Lite R-ASPP: class logits from two feature maps of a backbone, for semantic segmentation.

Source: Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv 1905.02244, section 6.4. Layers
and names are those of torchvision's ``LRASPPHead``, whose state dict fits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.models.layers import norm_layer

CHANNELS = 128


class LRASPPHead(nn.Module):
    """A 1x1 convolution of the coarse map, weighted by its global average, beside the fine map.

    Differs from the paper as torchvision does: the coarse map is averaged over the whole image, not
    over 49x49 cells with stride, so that images of any size are taken. Differs from torchvision in
    the order of two linear steps: classes are computed before the map is enlarged, which gives the
    same values with fewer channels to enlarge.

    Args:
        low_channels: of the fine map, an eighth of the image's side.
        high_channels: of the coarse map.
        num_classes: K.
        channels: of the convolution of the coarse map.

    Example:
        >>> head = LRASPPHead(24, 320, num_classes=5)
        >>> head(torch.zeros(2, 24, 12, 16), torch.zeros(2, 320, 6, 8)).shape
        torch.Size([2, 5, 12, 16])
    """

    def __init__(
        self, low_channels: int, high_channels: int, num_classes: int, channels: int = CHANNELS
    ) -> None:
        super().__init__()
        norm = norm_layer(eps=1e-5, momentum=0.1)
        self.cbr = nn.Sequential(
            nn.Conv2d(high_channels, channels, 1, bias=False), norm(channels), nn.ReLU(inplace=True)
        )
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(high_channels, channels, 1, bias=False), nn.Sigmoid()
        )
        self.low_classifier = nn.Conv2d(low_channels, num_classes, 1)
        self.high_classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Logits [B, K, H, W] for a fine map [B, C, H, W] and a coarse one [B, C', H', W']."""
        coarse = coarse_logits(self.cbr, self.scale, self.high_classifier, high)
        return add_coarse(self.low_classifier(low), coarse)


def coarse_logits(
    cbr: nn.Sequential, scale: nn.Sequential, classifier: nn.Module, high: Tensor
) -> Tensor:
    """What the coarse map [B, C', H', W'] adds to the logits, by layers of a head."""
    # a mean, which the exporters take for maps of any size
    weights = scale[1:](torch.mean(high, dim=(2, 3), keepdim=True))
    logits: Tensor = classifier(cbr(high) * weights)
    return logits


def add_coarse(fine: Tensor, coarse: Tensor) -> Tensor:
    """Logits [B, K, H, W] of what the fine map gives and what the coarse one, enlarged, adds."""
    return fine + F.interpolate(coarse, fine.shape[-2:], mode="bilinear", align_corners=False)
