"""Images and masks to network inputs, with or without random changes.

As in detection (`tasks.detect.transforms`), the changes are albumentations' pipelines, and every
draw comes from a generator that is seeded by (seed, epoch, index).
"""

from __future__ import annotations

import os
import random
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from igcv3det.io.images import Image
from igcv3det.tasks.segment.config import MaskAugmentConfig, SegmenterConfig
from igcv3det.tasks.segment.inputs import InputTransform, resize_image
from igcv3det.tasks.segment.masks import IGNORED, Mask

# otherwise it asks a package index for a newer version on import
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations


class MaskTrainTransform:
    """Random scale, crop, flip and colours of an image and its mask.

    Args:
        augment: ranges of the changes.
        config: input size and normalisation.
        seed: of all draws.
    """

    def __init__(self, augment: MaskAugmentConfig, config: SegmenterConfig, seed: int = 0) -> None:
        self.inputs = InputTransform(config)
        self.seed = seed
        steps: list[Any] = [ScaleAndCrop(augment, config)]
        if augment.flip:
            steps.append(albumentations.HorizontalFlip(p=0.5))
        if augment.colour > 0:
            spread = (1 - augment.colour, 1 + augment.colour)
            steps.append(
                albumentations.ColorJitter(
                    brightness=spread, contrast=spread, saturation=spread, hue=(0, 0), p=0.8
                )
            )
        self.pipeline = albumentations.Compose(steps)

    def __call__(self, image: Image, mask: Mask, key: tuple[int, int]) -> tuple[Tensor, Mask]:
        """The network input [3, H, W] and classes [H, W] as drawn for ``key`` (epoch, index)."""
        rng = np.random.default_rng((self.seed, *key))
        self.pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        result = self.pipeline(image=image, mask=mask)
        return self.inputs.normalize(result["image"]), np.ascontiguousarray(result["mask"])


class MaskEvalTransform:
    """Resizes and normalises the image; the mask keeps its size, in which it is scored.

    Args:
        config: input size and normalisation.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        self.inputs = InputTransform(config)

    def __call__(self, image: Image, mask: Mask, key: tuple[int, int]) -> tuple[Tensor, Mask]:
        """The network input [3, H, W] and classes [H', W'] of the image's own size."""
        return self.inputs(image), mask


class ScaleAndCrop(albumentations.DualTransform):  # type: ignore[misc]
    """Resizes image and mask by a random factor and crops or pads them to the input's size.

    The factor is relative to the whole image at the input's size. Pixels beyond the image get the
    mean, and ``IGNORED`` in the mask. Each pixel is interpolated once: what will be cropped is cut
    out of the image before it is resized.

    Args:
        augment: range of the factor.
        config: input size and mean.
    """

    def __init__(self, augment: MaskAugmentConfig, config: SegmenterConfig) -> None:
        super().__init__(p=1.0)
        self.range = augment.scale
        self.size = config.image_size
        self.fill = tuple(round(value) for value in config.mean)

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draws the factor, the window of the image and its place in the input."""
        rng = self.random_generator
        low, high = np.log(self.range)
        factor = float(np.exp(rng.uniform(low, high)))
        window, place = [], []
        for side, target in zip(params["shape"][:2], self.size, strict=True):
            taken = min(side, max(1, round(side / factor)))  # pixels of the image
            filled = min(target, max(1, round(target * factor)))  # pixels of the input
            window.append((int(rng.integers(0, side - taken + 1)), taken))
            place.append((int(rng.integers(0, target - filled + 1)), filled))
        return {"window": window, "place": place}

    def apply(self, img: Image, window: Any, place: Any, **params: Any) -> Image:  # noqa: ANN401
        """The image at the input's size."""
        (height, width) = (filled for _, filled in place)
        resized = resize_image(_cut(img, window), (height, width))
        return cast("Image", self._placed(resized, place, self.fill))

    def apply_to_mask(
        self,
        mask: Mask,
        window: Any,  # noqa: ANN401
        place: Any,  # noqa: ANN401
        **params: Any,  # noqa: ANN401
    ) -> Mask:
        """The mask at the input's size."""
        size = place[1][1], place[0][1]
        cut = np.ascontiguousarray(_cut(mask, window))
        resized = cast("Mask", cv2.resize(cut, size, interpolation=cv2.INTER_NEAREST_EXACT))
        return cast("Mask", self._placed(resized, place, IGNORED))

    def _placed(self, part: Any, place: Any, fill: Any) -> Any:  # noqa: ANN401
        if part.shape[:2] == self.size:
            return part
        canvas = np.full((*self.size, *part.shape[2:]), fill, np.uint8)
        (top, height), (left, width) = place
        canvas[top : top + height, left : left + width] = part
        return canvas


def _cut(array: NDArray[np.uint8], window: Any) -> NDArray[np.uint8]:  # noqa: ANN401
    (top, height), (left, width) = window
    return array[top : top + height, left : left + width]
