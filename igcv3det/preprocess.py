"""From an RGB image to the network input, the same for training, inference and export.

An image is resized to the square input without keeping its aspect ratio, then normalised per
channel. `PreprocessConfig` describes both steps and is saved in every checkpoint.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igcv3det.config import PreprocessConfig

Image = NDArray[np.uint8]
"""[H, W, 3] RGB, 0..255."""
Resized = NDArray[np.uint8] | NDArray[np.float32]
"""[S, S, 3] RGB, 0..255: uint8 after OpenCV's resize, float32 after TensorFlow's."""
Boxes = TypeVar("Boxes", NDArray[np.float32], Tensor)


class Preprocess:
    """Resizes and normalises images. It has no state: several threads may use one object.

    Args:
        config: mean, standard deviation and the kind of resize.
        image_size: S, side of the network input, pixels.

    Example:
        >>> preprocess = Preprocess(PreprocessConfig(), image_size=4)
        >>> preprocess(np.full((2, 3, 3), 255, dtype=np.uint8)).shape
        torch.Size([3, 4, 4])
    """

    def __init__(self, config: PreprocessConfig, image_size: int) -> None:
        self.config = config
        self.image_size = image_size

    def __call__(self, image: Image) -> Tensor:
        """[H, W, 3] uint8 RGB to [3, S, S] float32, ready for the network."""
        return self.normalize(self.resize(image))

    def resize(self, image: Image) -> Resized:
        """Resizes an image to the square input.

        Args:
            image: [H, W, 3] RGB, of any strides.

        Returns:
            [S, S, 3] in 0..255: uint8 for ``bilinear``, unrounded float32 for ``tensorflow``.

        Raises:
            ValueError: ``image`` is not a uint8 array [H, W, 3], or has no pixels.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(
                f"an image must be a uint8 array [H, W, 3], got {image.dtype} {list(image.shape)}"
            )
        size = self.image_size
        if self.config.resize == "tensorflow":
            return _resize_tensorflow(image, size)
        resized = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
        return cast("Image", resized)

    def normalize(self, resized: Resized) -> Tensor:
        """[S, S, 3] in 0..255 to [3, S, S] float32: (value - mean) / std for each channel."""
        planes = np.empty((3, *resized.shape[:2]), dtype=np.float32)
        values = zip(cv2.split(resized), self.config.mean, self.config.std, planes, strict=True)
        for channel, mean, std, plane in values:
            np.subtract(channel, np.float32(mean), out=plane, dtype=np.float32)
            np.divide(plane, np.float32(std), out=plane)
        return torch.from_numpy(planes)

    def scale_boxes(self, boxes: Boxes, original_size: tuple[int, int]) -> Boxes:
        """Boxes of the original image in pixels of the network input.

        Args:
            boxes: [N, 4] xyxy, pixels of the original image.
            original_size: (height, width) of that image.

        Returns:
            [N, 4] xyxy, pixels of the network input, in a new array or tensor like the one given.
        """
        height, width = original_size
        x, y = self.image_size / width, self.image_size / height
        if isinstance(boxes, Tensor):
            return boxes * boxes.new_tensor([x, y, x, y])
        return boxes * np.array([x, y, x, y], dtype=np.float32)


def _resize_tensorflow(image: Image, size: int) -> NDArray[np.float32]:
    """Bilinear resize with source = target * (in / out) from the corner, not rounded.

    Source: tensorflow/core/kernels/image/resize_bilinear_op.cc with ``align_corners`` and
    ``half_pixel_centers`` both false, as the Object Detection API calls it.
    """
    height, width = image.shape[:2]
    top, bottom, y_lerp = _interpolation(height, size)
    left, right, x_lerp = _interpolation(width, size)
    # Indexing rows copies whole rows, indexing columns copies pixels. Transposing first makes this
    # eight times as fast.
    transposed = cv2.transpose(image)
    first, second = transposed[left].astype(np.float32), transposed[right].astype(np.float32)
    columns = _lerp(first, second, x_lerp[:, None, None])
    rows = cast("NDArray[np.float32]", cv2.transpose(columns))
    return _lerp(rows[top], rows[bottom], y_lerp[:, None, None])


def _interpolation(
    length: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """[size] each: the two source indices of every target index, and the weight of the second."""
    source = np.arange(size, dtype=np.float32) * (np.float32(length) / np.float32(size))
    first = np.floor(source).astype(np.int64)
    second = np.minimum(first + 1, length - 1)
    return first, second, source - first.astype(np.float32)


def _lerp(
    first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[Any]
) -> NDArray[np.float32]:
    """``first + weight * (second - first)``; overwrites ``second``."""
    second -= first
    second *= weight
    second += first
    return second
