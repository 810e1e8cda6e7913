"""Images and boxes to network inputs, with or without random changes.

The random changes are albumentations' pipelines, but every draw comes from a generator that is
seeded by (seed, epoch, index): a sample does not depend on the number of workers or on what was
loaded before, and a resumed run has the samples of an unbroken one. (By default albumentations
2.0.8 repeats its draws in every worker, and `Compose.set_random_seed` gives every transform the
same stream.)
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple, cast

import albumentations
import numpy as np
from numpy.typing import NDArray

from igcv3det.config import AugmentConfig
from igcv3det.preprocess import Preprocess, Resized
from igcv3det.tasks.detect.crops import (
    contains_center,
    random_expand,
    random_iou_crop,
    resize_crop,
    whole_pixels,
)
from igcv3det.tasks.detect.own_augmentation import OwnAugmentation, apply_own

MIN_SIDE_PX = 1.0
"""Smaller boxes are dropped after cropping and resizing, pixels of the network input."""
BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.125, 0.5, 0.5, 0.05
"""Ranges of SSD's colour changes as in torchvision's ``RandomPhotometricDistort``; hue in turns."""


class Example(NamedTuple):
    """An image or network input and its boxes, in pixels of it.

    Attributes:
        image: uint8 [H, W, 3] RGB before a transform, float32 tensor [3, S, S] after it.
        boxes: [N, 4] float32 xyxy.
        labels: [N] int64, 0 for crowd regions.
    """

    image: Any
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]


class EvalTransform:
    """Resizes and normalises; nothing is random and no box is dropped.

    Args:
        preprocess: the detector's own.
    """

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess

    def __call__(self, example: Example, key: tuple[int, int]) -> Example:
        """The network input; ``key`` (epoch, index) has no influence."""
        image, boxes, labels = example
        boxes = self.preprocess.scale_boxes(boxes, image.shape[:2])
        return Example(self.preprocess(image), boxes, labels)


class TrainTransform:
    """Random changes, then as `EvalTransform`; boxes under a pixel are dropped.

    Args:
        config: which changes, by preset.
        preprocess: the detector's own.
        seed: of all draws.
        own: the user's own changes, in place of a preset's.
    """

    def __init__(
        self,
        config: AugmentConfig,
        preprocess: Preprocess,
        seed: int = 0,
        own: OwnAugmentation | None = None,
    ) -> None:
        self.preprocess = preprocess
        self.seed = seed
        if own is None:
            self.pipeline, self._own, self._path = build_pipeline(config, preprocess), None, None
        else:
            # of its own: the file's limits are for boxes in pixels of its own images
            self.pipeline = build_pipeline(AugmentConfig(preset="none"), preprocess)
            self._own, self._path = own.compose(), own.path

    def __call__(self, example: Example, key: tuple[int, int]) -> Example:
        """The network input as drawn for ``key`` (epoch, index)."""
        rng = np.random.default_rng((self.seed, *key))
        draws = random.Random(int(rng.integers(2**63)))
        for pipeline in filter(None, (self._own, self.pipeline)):
            pipeline.set_random_state(rng, draws)
        image, boxes, labels = example
        height, width = image.shape[:2]
        rows = np.concatenate([boxes / _corners(width, height), labels[:, None]], axis=1)
        result = self._changed(image, rows.astype(np.float32))
        size = self.preprocess.image_size
        rows = result["bboxes"].reshape(-1, 5)  # without boxes it comes back with four columns
        boxes = np.clip(rows[:, :4] * _corners(size, size), 0, size)
        large = ((boxes[:, 2:] - boxes[:, :2]) >= MIN_SIDE_PX).all(axis=1)
        return Example(
            self.preprocess.normalize(result["image"]),
            boxes[large],
            rows[large, 4].astype(np.int64),
        )

    def _changed(self, image: NDArray[np.uint8], rows: NDArray[np.float32]) -> dict[str, Any]:
        if self._path is not None:
            changed = apply_own(self._own, self._path, image, rows)
            image = changed["image"]
            rows = np.asarray(changed["bboxes"], np.float32).reshape(-1, 5)
        result: dict[str, Any] = self.pipeline(image=image, bboxes=rows)
        return result


def build_pipeline(config: AugmentConfig, preprocess: Preprocess) -> Any:  # noqa: ANN401
    """The albumentations pipeline of a preset.

    It takes ``image`` and ``bboxes`` [N, 5]: xyxy as shares of the image, and the label, 0 for
    crowds. Geometry comes first, so that colours change on the few pixels of the network input.
    """
    steps: list[Any] = [ExpandAndCrop(config, preprocess)]
    if config.preset != "none":
        steps.append(albumentations.HorizontalFlip(p=0.5))
    if config.preset == "ssd" and config.photometric > 0:
        steps += _photometric(config.photometric)
    # boxes are inside after every step, and dropped at the end
    bbox_params = albumentations.BboxParams("albumentations", check_each_transform=False)
    return albumentations.Compose(steps, bbox_params=bbox_params)


def _photometric(strength: float) -> list[Any]:
    """Brightness, contrast before or after saturation and hue, and a change of channels.

    Source: torchvision's ``RandomPhotometricDistort``, after SSD's Caffe code; each with p = 0.5.
    """

    def jitter(**ranges: tuple[float, float]) -> Any:  # noqa: ANN401
        unchanged = {"brightness": (1, 1), "contrast": (1, 1), "saturation": (1, 1), "hue": (0, 0)}
        return albumentations.ColorJitter(**(unchanged | ranges), p=0.5)

    def around_one(spread: float) -> tuple[float, float]:
        return max(0.0, 1 - strength * spread), 1 + strength * spread

    turn = min(0.5, strength * HUE)
    contrast = jitter(contrast=around_one(CONTRAST))
    colours = [jitter(saturation=around_one(SATURATION)), jitter(hue=(-turn, turn))]
    orders = [[contrast, *colours], [*colours, contrast]]
    return [
        jitter(brightness=around_one(BRIGHTNESS)),
        albumentations.OneOf([albumentations.Sequential(order, p=1) for order in orders], p=1),
        albumentations.ChannelShuffle(p=0.5 * min(1.0, strength)),
    ]


class ExpandAndCrop(albumentations.DualTransform):  # type: ignore[misc]
    """Expands and crops at random as the preset says, and resizes to the network input.

    Objects are kept if their centre is in the crop, crowd regions if any part is; both are clipped.

    Args:
        config: preset and scales.
        preprocess: resizes; pixels beyond the image get its mean.
    """

    def __init__(self, config: AugmentConfig, preprocess: Preprocess) -> None:
        super().__init__(p=1.0)
        self.config = config
        self.preprocess = preprocess

    def get_params_dependent_on_data(
        self, params: dict[str, Any], data: dict[str, Any]
    ) -> dict[str, Any]:
        """Draws the crop."""
        height, width = params["shape"][:2]
        crop = np.array([0.0, 0.0, width, height])
        if self.config.preset == "ssd":
            max_scale = self.config.expand_max_scale
            crop = random_expand(self.random_generator, height, width, max_scale)
        if self.config.preset in ("ssd", "ssdlite"):
            objects = data["bboxes"][data["bboxes"][:, 4] > 0, :4] * _corners(width, height)
            if not len(objects):
                # a crop must overlap the image itself enough
                objects = np.array([[0.0, 0.0, width, height]])
            min_scale = self.config.crop_min_scale
            crop = random_iou_crop(self.random_generator, crop, objects, min_scale)
        return {"crop": whole_pixels(crop, height, width)}

    def apply(self, img: NDArray[np.uint8], crop: NDArray[np.float64], **params: Any) -> Resized:  # noqa: ANN401
        """The crop as network input, 0..255."""
        resized = resize_crop(img, crop, self.preprocess)
        if self.config.preset == "ssd" and resized.dtype != np.uint8:
            # colours are changed in 8 bits; albumentations takes floats to be in 0..1
            return np.rint(resized).astype(np.uint8)
        return resized

    def apply_to_bboxes(
        self,
        bboxes: NDArray[np.float32],
        crop: NDArray[np.float64],
        **params: Any,  # noqa: ANN401
    ) -> NDArray[np.float32]:
        """Boxes as shares of the crop."""
        bboxes = bboxes.reshape(-1, 5)  # none at all come with four columns
        height, width = params["shape"][:2]
        shares = crop / _corners(width, height)
        low, sides = np.tile(shares[:2], 2), np.tile(shares[2:] - shares[:2], 2)
        boxes = np.clip((bboxes[:, :4] - low) / sides, 0, 1)
        visible = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        visible &= contains_center(shares, bboxes[:, :4].astype(np.float64)) | (bboxes[:, 4] == 0)
        rows = np.concatenate([boxes, bboxes[:, 4:]], axis=1)[visible]
        return cast("NDArray[np.float32]", rows.astype(np.float32))


def _corners(width: float, height: float) -> NDArray[np.float64]:
    return np.array([width, height, width, height], dtype=np.float64)
