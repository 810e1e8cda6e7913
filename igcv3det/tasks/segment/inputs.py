"""From an RGB image to a segmenter's input, the same for training, inference and export."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from torch import Tensor

from igcv3det.config import PreprocessConfig
from igcv3det.io.images import Image
from igcv3det.preprocess import Preprocess
from igcv3det.tasks.segment.config import SegmenterConfig


class InputTransform:
    """Resizes and normalises images; several threads may use one object.

    Args:
        config: input size, mean and standard deviation.

    Example:
        >>> inputs = InputTransform(SegmenterConfig(image_size=(32, 48)))
        >>> inputs(np.zeros((60, 70, 3), np.uint8)).shape
        torch.Size([3, 32, 48])
    """

    def __init__(self, config: SegmenterConfig) -> None:
        self.size = config.image_size
        # only its normalisation is used: it resizes to squares
        self._normalise = Preprocess(PreprocessConfig(config.mean, config.std), max(self.size))

    def __call__(self, image: Image) -> Tensor:
        """[H', W', 3] uint8 RGB of any size to [3, H, W] float32."""
        return self.normalize(resize_image(image, self.size))

    def normalize(self, resized: Image) -> Tensor:
        """[H, W, 3] in 0..255 to [3, H, W] float32."""
        return self._normalise.normalize(resized)


def resize_image(image: Image, size: tuple[int, int]) -> Image:
    """An image at (height, width); areas are averaged where it shrinks."""
    height, width = size
    if image.shape[:2] == size:
        return image
    shrinks = image.shape[0] > height and image.shape[1] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    source = np.ascontiguousarray(image)
    return cast("Image", cv2.resize(source, (width, height), interpolation=method))
