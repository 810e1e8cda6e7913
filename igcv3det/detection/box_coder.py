"""Encoding of boxes as offsets of their anchors, the regression target.

Liu et al., SSD, arXiv:1512.02325, equation 2, after Girshick et al., arXiv:1311.2524, appendix C.
Dividing by the variances equals multiplying by the weights of torchvision's ``BoxCoder``, or by the
scales of TensorFlow's ``FasterRcnnBoxCoder``: 0.1, 0.1, 0.2, 0.2 are 10, 10, 5, 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_LOG_SIZE = math.log(1000 / 16)
"""Decoded sides grow at most 62.5-fold: an untrained network cannot overflow (torchvision)."""


@dataclass(frozen=True)
class BoxCoder:
    """Turns boxes into offsets (dx, dy, dw, dh) of their anchors, and back.

    Attributes:
        variances: of dx, dy, dw, dh.

    Example:
        >>> coder = BoxCoder((0.1, 0.1, 0.2, 0.2))
        >>> anchor = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
        >>> coder.encode(anchor + 1, anchor)  # one pixel to the right and down
        tensor([[1., 1., 0., 0.]])
    """

    variances: tuple[float, float, float, float]

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Offsets that decode to the boxes.

        Args:
            boxes: [..., 4] xyxy of positive width and height; others give infinities.
            anchors: [..., 4] xyxy in the frame of the boxes, one for each box.

        Returns:
            [..., 4] dx, dy, dw, dh.
        """
        centres, sizes = _centres_and_sizes(anchors)
        box_centres, box_sizes = _centres_and_sizes(boxes)
        shift = (box_centres - centres) / sizes
        growth = torch.log(box_sizes / sizes)
        return torch.cat([shift, growth], dim=-1) / boxes.new_tensor(self.variances)

    def decode(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        """Boxes that the offsets stand for; not clipped to the image.

        Args:
            offsets: [..., 4] dx, dy, dw, dh; half precision is computed in float32.
            anchors: [..., 4] xyxy, one for each row of offsets (leading axes broadcast).

        Returns:
            [..., 4] xyxy in the frame of the anchors.
        """
        offsets = offsets.to(torch.promote_types(offsets.dtype, torch.float32))
        centres, sizes = _centres_and_sizes(anchors.to(offsets.dtype))
        offsets = offsets * offsets.new_tensor(self.variances)
        centres = centres + offsets[..., :2] * sizes
        half = torch.exp(offsets[..., 2:].clamp(max=MAX_LOG_SIZE)) * sizes / 2
        return torch.cat([centres - half, centres + half], dim=-1)


def _centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """[..., 2] centres (x, y) and [..., 2] sizes (width, height) of xyxy boxes."""
    sizes = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sizes / 2, sizes
