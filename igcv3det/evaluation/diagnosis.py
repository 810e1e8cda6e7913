"""Why an AP is close to zero: the usual mistakes, looked for in the detections themselves.

Each check counts the objects that the detections would cover if one thing were read differently. A
difference that large has a cause other than a weak detector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.box_readings import Boxes, from_corners, transposed
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.detection.iou import box_iou
from igcv3det.evaluation.rows import DetectionRows

COVERED_IOU = 0.5
MUCH_BETTER = 3.0  # times the share of objects covered as the file stands
WORTH_SAYING = 0.2  # share of objects covered below which a reading explains nothing
MAX_IMAGES = 500  # enough to see a systematic mistake


class _Image(NamedTuple):
    """Objects and detections of one image that has objects."""

    objects: Boxes
    labels: NDArray[np.int64]
    detected: Boxes
    detected_labels: NDArray[np.int64]
    size: tuple[int, int]


def diagnose(
    rows: DetectionRows, truth: AnnotationRecord, image_ids: Sequence[int], unknown_class: int = 0
) -> list[str]:
    """One sentence for each thing that is odd.

    Args:
        rows: detections.
        truth: the annotations.
        image_ids: of the images that were evaluated.
        unknown_class: number of detections of classes that the annotations lack, which are not
            among ``rows``.
    """
    evaluated = np.unique(np.array(image_ids, dtype=np.int64))
    is_evaluated = np.isin(truth.images.ids, evaluated)
    is_object = is_evaluated[truth.image_rows] & ~truth.is_crowd
    with_objects = np.unique(truth.image_rows[is_object])
    detected = np.unique(rows.image_ids)
    remarks = [
        f"{len(rows)} detections on {len(detected)} of {len(evaluated)} images; "
        f"{int(is_object.sum())} objects on {len(with_objects)} images"
    ]
    if unknown_class:
        remarks.append(f"{unknown_class} detections are of classes that the data set does not have")
    if not len(rows):
        if unknown_class:
            return remarks
        return [*remarks, "nothing was detected: an untrained detector, or too high a threshold"]
    if not len(with_objects):
        return [*remarks, "there are no objects: these annotations cannot score anything"]
    if not np.isin(detected, truth.images.ids[with_objects]).any():
        return [
            *remarks,
            "no image has both objects and detections: image ids of another data set?",
        ]
    return remarks + _readings(_images(rows, truth, with_objects[:MAX_IMAGES]))


def _images(
    rows: DetectionRows, truth: AnnotationRecord, image_rows: NDArray[np.int32]
) -> list[_Image]:
    label_of = {number: label for label, number in enumerate(truth.categories.ids, start=1)}
    labels = np.array([label_of.get(i, 0) for i in rows.category_ids.tolist()], dtype=np.int64)
    images = []
    for row in image_rows.tolist():
        entry = truth.images[row]
        is_here = (truth.image_rows == row) & ~truth.is_crowd
        is_found = rows.image_ids == entry.image_id
        images.append(
            _Image(
                truth.boxes[is_here],
                truth.labels[is_here].astype(np.int64),
                rows.boxes[is_found],
                labels[is_found],
                entry.size or (1, 1),
            )
        )
    return images


def _readings(images: Sequence[_Image]) -> list[str]:
    def share(
        read_detection: Callable[[Boxes, tuple[int, int]], Boxes] = _unchanged,
        read_object: Callable[[Boxes, tuple[int, int]], Boxes] = _unchanged,
    ) -> float:
        return _mean(
            _covers(
                read_object(image.objects, image.size), read_detection(image.detected, image.size)
            ).any(axis=1)
            for image in images
        )

    as_given = share()
    with_class = _mean(
        (
            _covers(image.objects, image.detected)
            & (image.labels[:, None] == image.detected_labels)
        ).any(axis=1)
        for image in images
    )
    remarks = [
        f"detections cover {as_given:.0%} of the objects (IoU {COVERED_IOU}), those of the same "
        f"class {with_class:.0%}"
    ]
    if as_given > WORTH_SAYING and as_given > MUCH_BETTER * with_class:
        remarks.append("the boxes fit but the classes do not: are labels or category ids shifted?")
    alternatives = {
        "the detections' boxes look like xyxy where xywh is expected": share(_read(from_corners)),
        "the annotations' boxes look like xyxy where COCO has xywh": share(
            read_object=_read(from_corners)
        ),
        "x and y of the detections look exchanged": share(_read(transposed)),
        "the detections' boxes look normalised to 0..1": share(_scaled),
    }
    return remarks + [
        f"{what}: read so, they cover {covered:.0%} of the objects"
        for what, covered in alternatives.items()
        if covered > WORTH_SAYING and covered > MUCH_BETTER * as_given
    ]


def _mean(flags: Any) -> float:  # noqa: ANN401
    return float(np.concatenate(list(flags)).mean())


def _covers(objects: Boxes, detected: Boxes) -> NDArray[np.bool_]:
    """[N, M], whether an object and a detection overlap enough."""
    pairs = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], axis=1) for b in (objects, detected)]
    covers: NDArray[np.bool_] = box_iou(*pairs) >= COVERED_IOU
    return covers


def _unchanged(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    del size
    return boxes


def _read(reading: Callable[[Boxes], Boxes]) -> Callable[[Boxes, tuple[int, int]], Boxes]:
    return lambda boxes, size: reading(boxes)


def _scaled(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    height, width = size
    scaled: Boxes = boxes * np.array([width, height, width, height])
    return scaled
