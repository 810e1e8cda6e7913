"""A student with another input size than its teacher's.

A convolution knows pixels, not shares of the image: weights that were trained at another size keep
the anchors that they know, in pixels (`igcv3det.detector.at_input_size`). The teacher runs at the
student's size. Its outputs at its own size are those of other cells and anchors: interpolated
between the cells, the scores of small objects would be blurred.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detector import SSDLite
from igcv3det.structures import Target


def resized(images: Tensor, own: int, other: int) -> Tensor:
    """Images [B, 3, S, S] for a network of size ``other`` at the size for one of ``own``.

    Bilinear without antialiasing, as TensorFlow resizes; the same tensor where both are equal.
    """
    if own == other:
        return images
    side = round(images.shape[-1] * own / other)
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def resized_targets(targets: Sequence[Target], own: int, other: int) -> list[Target]:
    """Boxes in pixels of images for a network of size ``other``, in pixels of `resized` images."""
    if own == other:
        return list(targets)
    share = own / other
    return [x._replace(boxes=x.boxes * share, crowds=x.crowds * share) for x in targets]


class Reencoding(nn.Module):
    """Offsets of one detector's anchors as those of another's, which stand for the same boxes.

    Args:
        source: whose offsets are given.
        target: with as many anchors, for the same images.
    """

    scales: Tensor
    moves: Tensor

    def __init__(self, source: SSDLite, target: SSDLite) -> None:
        super().__init__()
        own, other = (x.anchors.cpu() for x in (source, target))  # may be on two devices
        ratio = (own[:, 2:] - own[:, :2]) / (other[:, 2:] - other[:, :2])
        coder = BoxCoder(target.config.variances)
        self.register_buffer("scales", torch.cat([ratio, torch.ones_like(ratio)], dim=1))
        self.register_buffer("moves", coder.encode(own, other))

    def forward(self, offsets: Tensor) -> Tensor:
        """[B, A, 4] of offsets [B, A, 4]."""
        return offsets * self.scales + self.moves
