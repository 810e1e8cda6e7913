"""DeepLabV3's head with depthwise convolutions: one feature map seen at several dilations.

Source: Chen et al., "Rethinking Atrous Convolution", arXiv 1706.05587, section 3.3; separable
convolutions as in DeepLabV3+, arXiv 1802.02611, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from igcv3det.models.layers import norm_layer

RATES = (6, 12, 18)
"""Dilations for a map at stride 16, which at stride 32 are halved."""
DROPOUT = 0.1


class DeepLabHead(nn.Module):
    """Atrous spatial pyramid pooling and a classifier.

    Training needs batches of two images: the norm of the global average has one cell an image.

    Branches of a 1x1 convolution, of separable 3x3 convolutions with one dilation each, and of the
    global average; then a 1x1 convolution of all of them. Differs from DeepLabV3+ in that there is
    no norm between the depthwise and the 1x1 convolution: the branch is torchvision's dense one
    with a weight of lower rank.

    Args:
        in_channels: of the feature map.
        num_classes: K.
        channels: of every branch.
        output_stride: of the feature map.

    Example:
        >>> head = DeepLabHead(320, num_classes=5, channels=64).eval()
        >>> head(torch.zeros(2, 320, 6, 8)).shape
        torch.Size([2, 5, 6, 8])
    """

    def __init__(
        self, in_channels: int, num_classes: int, channels: int, output_stride: int = 16
    ) -> None:
        super().__init__()
        self.norm = norm_layer(eps=1e-5, momentum=0.1)
        rates = [rate * 16 // output_stride for rate in RATES]
        branches = [self._branch(in_channels, channels)]
        branches += [self._branch(in_channels, channels, rate) for rate in rates]
        self.branches = nn.ModuleList(branches)
        self.pooled = self._branch(in_channels, channels)
        self.project = self._branch((len(branches) + 1) * channels, channels)
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def _branch(self, in_channels: int, channels: int, rate: int | None = None) -> nn.Sequential:
        layers: list[nn.Module] = []
        if rate is not None:
            layers.append(
                nn.Conv2d(
                    *(in_channels, in_channels, 3),
                    padding=rate,
                    dilation=rate,
                    groups=in_channels,
                    bias=False,
                )
            )
        layers += [nn.Conv2d(in_channels, channels, 1, bias=False), self.norm(channels)]
        return nn.Sequential(*layers, nn.ReLU(inplace=True))

    def forward(self, high: Tensor) -> Tensor:
        """Logits [B, K, H, W] for a map [B, C, H, W]."""
        maps = [branch(high) for branch in self.branches]
        mean = torch.mean(high, dim=(2, 3), keepdim=True)
        maps.append(self.pooled(mean).expand_as(maps[0]))
        logits: Tensor = self.classifier(self.dropout(self.project(torch.cat(maps, dim=1))))
        return logits
