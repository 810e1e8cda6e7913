"""Why an AP is next to nothing: the usual mistakes, looked for in the detections themselves.

Each check asks how many objects the detections would find if one thing were read differently. A
difference that large has a cause other than a weak detector.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.ground_truth import GroundTruth

Boxes = NDArray[np.float64]
Size = tuple[int, int]

FOUND_IOU = 0.5
MUCH_BETTER = 3.0  # times the share of objects found as the file stands
WORTH_SAYING = 0.2  # share of objects found below which a reading explains nothing
MAX_IMAGES = 500  # enough to see a systematic mistake


def diagnose(rows: Boxes, truth: GroundTruth, seen: Sequence[int]) -> list[str]:
    """One sentence for each thing that is odd.

    Args:
        rows: [N, 7] detections: image id, x, y, width, height, score, category id.
        truth: what there was to find.
        seen: ids of the images that were evaluated.
    """
    shown = set(seen)
    objects: dict[int, list[list[float]]] = defaultdict(list)
    for a in truth.annotations:
        if a["image_id"] in shown and not a["iscrowd"]:
            objects[a["image_id"]].append([*a["bbox"], a["category_id"]])
    found = set(rows[:, 0].astype(np.int64).tolist())
    remarks = [
        f"{len(rows)} detections on {len(found)} of {len(shown)} images; "
        f"{sum(map(len, objects.values()))} objects on {len(objects)} images"
    ]
    if not len(rows):
        return [*remarks, "nothing was detected: an untrained detector, or too high a threshold"]
    if not objects:
        return [*remarks, "there are no objects: these annotations cannot score anything"]
    if not found & objects.keys():
        return [
            *remarks,
            "no image has both objects and detections: image ids of another data set?",
        ]
    return remarks + _readings(rows, {i: np.array(o) for i, o in objects.items()}, truth)


def _readings(rows: Boxes, objects: dict[int, Boxes], truth: GroundTruth) -> list[str]:
    images = sorted(objects)[:MAX_IMAGES]
    detected = {i: rows[rows[:, 0] == i] for i in images}
    sizes = {i: truth.images[i].size or (1, 1) for i in images}

    def share(
        of_detections: Callable[[Boxes, Size], Boxes], of_objects: Callable[[Boxes], Boxes]
    ) -> float:
        hits = [
            _is_covered(of_objects(objects[i][:, :4]), of_detections(detected[i][:, 1:5], sizes[i]))
            for i in images
        ]
        return float(np.concatenate(hits).mean())

    plain = share(_as_given, _as_is)
    with_class = float(
        np.concatenate([_with_class(objects[i], detected[i]) for i in images]).mean()
    )
    remarks = [
        f"{plain:.0%} of the objects lie under some detection (IoU {FOUND_IOU}), "
        f"{with_class:.0%} under one of their own class"
    ]
    if plain > WORTH_SAYING and plain > MUCH_BETTER * with_class:
        remarks.append("the boxes fit but the classes do not: are labels or category ids shifted?")
    alternatives = {
        "the detections' boxes look like xyxy where xywh is expected": share(_from_xyxy, _as_is),
        "the annotations' boxes look like xyxy where COCO has xywh": share(
            _as_given, lambda boxes: _from_xyxy(boxes, (1, 1))
        ),
        "x and y of the detections look exchanged": share(_exchanged, _as_is),
        "the detections' boxes look normalised to 0..1": share(_scaled, _as_is),
    }
    return remarks + [
        f"{what}: read so, {found:.0%} of the objects are found"
        for what, found in alternatives.items()
        if found > WORTH_SAYING and found > MUCH_BETTER * plain
    ]


def _as_is(boxes: Boxes) -> Boxes:
    return boxes


def _as_given(boxes: Boxes, size: Size) -> Boxes:
    del size
    return boxes


def _from_xyxy(boxes: Boxes, size: Size) -> Boxes:
    del size
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _exchanged(boxes: Boxes, size: Size) -> Boxes:
    del size
    return boxes[:, [1, 0, 3, 2]]


def _scaled(boxes: Boxes, size: Size) -> Boxes:
    height, width = size
    scaled: Boxes = boxes * np.array([width, height, width, height])
    return scaled


def _with_class(objects: Boxes, detected: Boxes) -> NDArray[np.bool_]:
    """Which objects lie under a detection of their class; [N, 5] xywh and class, [M, 7] rows."""
    same = objects[:, 4, None] == detected[None, :, 6]
    covered = _iou(objects[:, :4], detected[:, 1:5]) >= FOUND_IOU
    found: NDArray[np.bool_] = np.any(covered & same, axis=1)
    return found


def _is_covered(objects: Boxes, detected: Boxes) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.any(_iou(objects, detected) >= FOUND_IOU, axis=1)
    return found


def _iou(first: Boxes, second: Boxes) -> Boxes:
    """[N, M] for xywh boxes; 0 where a box has no area."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(
        first[:, None, :2] + first[:, None, 2:], second[None, :, :2] + second[None, :, 2:]
    )
    sides = np.clip(high - low, 0, None)
    overlap = sides[..., 0] * sides[..., 1]
    areas = [
        np.clip(boxes[:, 2], 0, None) * np.clip(boxes[:, 3], 0, None) for boxes in (first, second)
    ]
    union = areas[0][:, None] + areas[1][None, :] - overlap
    ious: Boxes = np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)
    return ious
