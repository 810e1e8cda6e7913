"""A backbone with Lite R-ASPP, or with DeepLabV3's head on the coarse map alone.

At 352x480 with MobileNetV2 1.0, Lite R-ASPP and output stride 16:

======  =====================  ====  =======  ======
map     source                 C     H, W     stride
======  =====================  ====  =======  ======
low     end of stage 3         32    44, 60   8
high    last 1x1 convolution   1280  22, 30   16
logits  Lite R-ASPP            K     44, 60   8
======  =====================  ====  =======  ======
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from igcv3det.detector import build_backbone
from igcv3det.models.deeplab import DeepLabHead
from igcv3det.models.dilation import OUTPUT_STRIDE_16, dilate_last_stages
from igcv3det.models.explicit_blocks import explicit_config
from igcv3det.models.igcv3 import IMAGENET_STRIDES
from igcv3det.models.lraspp import LRASPPHead
from igcv3det.models.sections import NUM_SECTIONS, SectionedBackbone
from igcv3det.tasks.segment.config import SegmenterConfig

LOW_STAGE = 3  # the last one at stride 8


class Segmenter(nn.Module):
    """Class logits of every pixel.

    Args:
        config: architecture and input.
        names: of the classes; None numbers them.

    Raises:
        ValueError: another number of names than ``config.num_classes``.

    Example:
        >>> import torch
        >>> segmenter = Segmenter(SegmenterConfig(num_classes=3, image_size=(64, 96)))
        >>> segmenter(torch.zeros(2, 3, 64, 96)).shape
        torch.Size([2, 3, 64, 96])
    """

    def __init__(self, config: SegmenterConfig, names: tuple[str, ...] | None = None) -> None:
        super().__init__()
        self.config = config
        self.names = names or numbered_names(config.num_classes)
        if len(self.names) != config.num_classes:
            raise ValueError(
                f"num_classes is {config.num_classes}, but there are {len(self.names)} names: "
                f"{', '.join(self.names[:5])}{', ...' if len(self.names) > 5 else ''}"
            )
        strides = OUTPUT_STRIDE_16 if config.output_stride == 16 else IMAGENET_STRIDES
        self.backbone = build_backbone(config.backbone, strides=strides, padding=config.padding)
        if config.output_stride == 16:
            dilate_last_stages(self.backbone)
        blocks = explicit_config(self.backbone, config.backbone).blocks or ()
        low = [block.channels for block in blocks if block.stage <= LOW_STAGE][-1]
        high = cast("tuple[int, ...]", self.backbone.feature_channels)[-1]
        self.head: LRASPPHead | DeepLabHead
        if config.head == "lraspp":
            self.head = LRASPPHead(low, high, config.num_classes, config.head_channels)
        else:
            sizes = config.num_classes, config.head_channels, config.output_stride
            self.head = DeepLabHead(high, *sizes)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits for normalised images [B, 3, H, W], at the size of the head's finest map.

        [B, K, H / 8, W / 8] of Lite R-ASPP, at the output stride of DeepLabV3.
        """
        backbone = cast("SectionedBackbone", self.backbone)
        low = high = images
        for section in range(NUM_SECTIONS):
            high, _ = backbone.forward_section(section, high)
            if section == LOW_STAGE:
                low = high
        inputs = (low, high) if isinstance(self.head, LRASPPHead) else (high,)
        logits: Tensor = self.head(*inputs)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, K, H, W] for normalised images [B, 3, H, W] of any size."""
        return resize_logits(self.coarse_logits(images), (images.shape[-2], images.shape[-1]))


def resize_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Logits [B, K, h, w] at another (height, width), by bilinear interpolation."""
    if tuple(logits.shape[-2:]) == size:
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def enlarge_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize_logits` to a larger size, as two matrix products in the logits' own precision.

    The backward pass of PyTorch's interpolation takes twice as long on a CPU.
    """
    across, down = (
        F.interpolate(torch.eye(before, device=logits.device)[None], after, mode="linear")[0]
        for before, after in zip(logits.shape[:-3:-1], size[::-1], strict=True)
    )
    with torch.autocast(logits.device.type, enabled=False):
        enlarged: Tensor = down.T @ (logits @ across)
    return enlarged


def numbered_names(num_classes: int) -> tuple[str, ...]:
    """Names of classes that the data does not name: "class 0", "class 1", ..."""
    return tuple(f"class {label}" for label in range(num_classes))
