"""A user's own augmentation: a pipeline of albumentations, applied to boxes and tried.

Trials at the start of a run find out whether a pipeline works on the images of a data set, and
whether boxes stay on their objects.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import albumentations
import numpy as np
from numpy.typing import NDArray

from igcv3det.detection.iou import box_iou

IMAGE_TRIALS, BOX_TRIALS = 8, 24
MIN_AGREEMENT = 0.5
"""Mean IoU of where an object is and where its box says that it is, over the trials."""
_OBJECT, _GROUND = (250, 20, 250), (20, 200, 20)


class OwnAugmentation(NamedTuple):
    """The pipeline of a file.

    Attributes:
        steps: one composition of albumentations, without its handling of boxes.
        box_limits: of `albumentations.BboxParams`, such as ``min_visibility``.
        path: the file.
    """

    steps: Any
    box_limits: dict[str, float]
    path: Path

    def compose(self) -> Any:  # noqa: ANN401
        """A pipeline for ``image`` and ``bboxes`` [N, 5]: xyxy as shares of the image, label."""
        # albumentations warns where no transform takes boxes
        return with_boxes([self.steps, albumentations.NoOp()], self.box_limits)


def with_boxes(steps: list[Any], limits: Mapping[str, float]) -> Any:  # noqa: ANN401
    """A pipeline that handles boxes, in albumentations' own form, with these limits."""
    return albumentations.Compose(
        steps, bbox_params=albumentations.BboxParams("albumentations", clip=True, **limits)
    )


def try_images(own: OwnAugmentation, size: tuple[int, int]) -> None:
    """Raises ValueError if the pipeline fails, or its images or boxes are none."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    low = np.array([[0.1, 0.1], [0.55, 0.15], [0.2, 0.55], [0.4, 0.4]])
    rows = np.concatenate([low, low + 0.3, np.arange(1, 5)[:, None]], axis=1).astype(np.float32)
    kept = 0
    results = [*_results(own, image, rows, IMAGE_TRIALS), *_results(own, image, rows[:0], 1)]
    for result in results:
        changed, boxes = result["image"], np.asarray(result["bboxes"]).reshape(-1, 5)
        is_image = isinstance(changed, np.ndarray) and changed.dtype == np.uint8
        if not is_image or changed.ndim != 3 or changed.shape[2] != 3:
            shown = f"{getattr(changed, 'dtype', type(changed))} {list(changed.shape)}"
            raise ValueError(f"{own.path}: transform gives no uint8 image [H, W, 3] but {shown}")
        inside = (boxes[:, :4] >= -1e-4).all() and (boxes[:, :4] <= 1 + 1e-4).all()
        if not inside or not set(boxes[:, 4].tolist()) <= set(rows[:, 4].tolist()):
            raise ValueError(f"{own.path}: transform changes labels, or moves boxes out of images")
        kept += len(boxes)
    if not kept:
        raise ValueError(
            f"{own.path}: transform loses all boxes of an image of {size[1]}x{size[0]} pixels in "
            f"{IMAGE_TRIALS} trials"
        )


def try_boxes(own: OwnAugmentation, size: tuple[int, int]) -> None:
    """Raises ValueError if an object is not where its box is afterwards."""
    image = np.full((*size, 3), _GROUND, dtype=np.uint8)
    height, width = size
    # not in the middle, where a box that stays behind would go unnoticed
    left, top, right, bottom = 0.1, 0.15, 0.45, 0.6
    columns = slice(round(left * width), round(right * width))
    image[round(top * height) : round(bottom * height), columns] = _OBJECT
    row = np.array([[left, top, right, bottom, 1]], dtype=np.float32)
    agreements = []
    for result in _results(own, image, row, BOX_TRIALS):
        rows = np.asarray(result["bboxes"]).reshape(-1, 5)
        if len(rows):
            said = np.concatenate([rows[:, :2].min(axis=0), rows[:, 2:4].max(axis=0)])
            agreements.append(_agreement(said, _seen(result["image"])))
    if agreements and np.mean(agreements) < MIN_AGREEMENT:
        raise ValueError(
            f"{own.path}: transform does not move boxes with their objects (mean IoU "
            f"{np.mean(agreements):.2f} in {len(agreements)} trials)"
        )


def _results(
    own: OwnAugmentation, image: NDArray[np.uint8], rows: NDArray[np.float32], trials: int
) -> Iterator[dict[str, Any]]:
    pipeline = own.compose()
    for trial in range(trials):
        pipeline.set_random_state(np.random.default_rng(trial), random.Random(trial))
        yield apply_own(pipeline, own.path, image, rows)


def apply_own(
    pipeline: Any,  # noqa: ANN401
    path: Path,
    image: NDArray[np.uint8],
    rows: NDArray[np.float32],
) -> dict[str, Any]:
    """Applies a pipeline of a file.

    Args:
        pipeline: of `OwnAugmentation.compose`.
        path: the file, for the message.
        image: [H, W, 3] RGB.
        rows: [N, 5], boxes xyxy as shares of the image, and labels.

    Raises:
        ValueError: the pipeline cannot be applied to this image.
    """
    try:
        result: dict[str, Any] = pipeline(image=image, bboxes=rows)
    except Exception as error:
        height, width = image.shape[:2]
        raise ValueError(
            f"{path}: transform fails on an image of {width}x{height} pixels: {one_line(error)}"
        ) from error
    return result


def _seen(image: NDArray[np.uint8]) -> NDArray[np.float64] | None:
    """[4] xyxy as shares of the image: where the object's colour is; None if it is nowhere."""
    red, green, blue = (image[..., channel].astype(int) for channel in range(3))
    rows, columns = np.nonzero((red > 128) & (green < 100) & (blue > 128))
    if not len(rows):
        return None
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    sides = np.array(image.shape[1::-1] * 2, dtype=np.float64)
    return np.asarray(corners / sides)


def _agreement(said: NDArray[np.float64], seen: NDArray[np.float64] | None) -> float:
    """IoU of two boxes [4] xyxy; 0 without the second."""
    return 0.0 if seen is None else float(box_iou(said[None].astype(np.float64), seen[None])[0, 0])


def one_line(error: BaseException) -> str:
    """One line of an error of albumentations or of pydantic, which lists several."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 2 and "validation error" in lines[0]:
        return f"{lines[1].split('.')[0]}: {lines[2].split(' [type=')[0]}"
    return lines[0] if lines else type(error).__name__
