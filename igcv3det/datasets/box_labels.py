"""Boxes of the images that a student learns from: annotated ones, other detectors', or both.

The file is an annotation file like any other. An annotation with a ``score`` was found by a
detector; one without was annotated. Images are found by their file names.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from igcv3det.atomic_files import atomic_write
from igcv3det.datasets.checks import check_record
from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.issues import AnnotationError, summarize
from igcv3det.datasets.store import AnnotationStore
from igcv3det.structures import Categories, Detections

logger = logging.getLogger(__name__)


class ImageBoxes(NamedTuple):
    """Boxes of one image.

    Attributes:
        boxes: [N, 4] float32 xyxy, as shares of width and height.
        labels: [N] int64 in 1..K.
        scores: [N] float32; 1 for annotated boxes.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


def read_labels(path: str | Path, categories: Categories) -> dict[str, ImageBoxes]:
    """Reads the boxes of a file, by the checks of training data.

    Args:
        path: COCO JSON, ``score`` allowed in annotations; crowd regions are left out.
        categories: the detector's; the file's categories must be among them, by id and name.

    Returns:
        The boxes of every image of the file, by file name without folders; images without boxes
        are there too.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: the file cannot be understood, two images have one file name, or a score
            is not in 0..1.
    """
    store, issues = check_record(read_coco(path))
    if issues:
        logger.warning("%s; check-data lists all", summarize(issues, path))
    known = {
        pair: label
        for label, pair in enumerate(zip(categories.ids, categories.names, strict=True), start=1)
    }
    own = list(zip(store.categories.ids, store.categories.names, strict=True))
    unknown = [f"{number} {name!r}" for number, name in own if (number, name) not in known]
    if unknown:
        raise AnnotationError(f"{path}: categories: the detector has no {', '.join(unknown[:5])}")
    scores = np.ones(len(store.labels), np.float32)
    if store.scores is not None:
        scores = np.where(np.isnan(store.scores), scores, store.scores)
        if len(wrong := scores[(scores < 0) | (scores > 1)]):
            raise AnnotationError(f"{path}: annotations: score {wrong[0]:g} is not in 0..1")
    labels = np.array([0, *(known[pair] for pair in own)])[store.labels]
    boxes: dict[str, ImageBoxes] = {}
    for index in range(len(store)):
        name = PureWindowsPath(store.images[index].file_name).name  # knows both slashes
        if name in boxes:
            raise AnnotationError(f"{path}: images: file name {name!r} occurs twice")
        boxes[name] = _image_boxes(store, index, labels, scores)
    return boxes


def with_annotated_boxes(
    predicted: Mapping[str, ImageBoxes], annotated: Mapping[str, ImageBoxes], labels: Sequence[int]
) -> dict[str, ImageBoxes]:
    """Puts annotated boxes in the place of predicted ones, for the classes that were annotated.

    Args:
        predicted: detectors' boxes of images.
        annotated: annotated boxes of some of them.
        labels: the classes that were annotated; of all others the predicted boxes stay.
    """
    merged = dict(predicted)
    replaced = torch.tensor(list(labels), dtype=torch.int64)
    none = ImageBoxes(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    for name, own in annotated.items():
        found = predicted.get(name, none)
        kept = ~torch.isin(found.labels, replaced)
        pairs = zip(own, found, strict=True)
        merged[name] = ImageBoxes(*(torch.cat([a, b[kept]]) for a, b in pairs))
    return merged


def boxes_of_record(record: Mapping[str, Any], categories: Categories) -> Detections:
    """A record of ``predict --json`` as detections.

    Boxes without area are left out: the coordinates of a narrow box may round to the same number.

    Raises:
        ValueError: a category that the detector does not have, a field that is missing, a box
            whose ends are in the wrong order or a score that is not in 0..1; names the image.
    """
    labels = {number: label for label, number in enumerate(categories.ids, start=1)}
    try:
        found = record["detections"]
        boxes = torch.tensor([item["box"] for item in found], dtype=torch.float32).reshape(-1, 4)
        scores = torch.tensor([item["score"] for item in found], dtype=torch.float32)
        own = torch.tensor([labels[item["category_id"]] for item in found], dtype=torch.int64)
    except KeyError as error:
        raise ValueError(f"record of {record.get('file')}: lacks {error}") from error
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"record of {record.get('file')}: {error}") from error
    is_right = boxes.isfinite().all(dim=1) & (boxes[:, :2] <= boxes[:, 2:]).all(dim=1)
    is_right &= (scores >= 0) & (scores <= 1)
    if not is_right.all():
        wrong = found[int(is_right.logical_not().nonzero()[0])]
        raise ValueError(
            f"record of {record.get('file')}: needs a box x0 <= x1, y0 <= y1 and a score in 0..1, "
            f"got {wrong['box']} and {wrong['score']}"
        )
    has_area = (boxes[:, :2] < boxes[:, 2:]).all(dim=1)
    return Detections(boxes[has_area], scores[has_area], own[has_area], categories)


def write_labels(
    path: Path,
    boxes: Mapping[str, ImageBoxes],
    sizes: Mapping[str, tuple[int, int]],
    categories: Categories,
) -> None:
    """Writes what `read_labels` reads.

    Args:
        path: of the JSON file.
        boxes: by file name.
        sizes: (width, height) in pixels by file name.
        categories: of the labels.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, (name, own) in enumerate(sorted(boxes.items()), start=1):
        width, height = sizes[name]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        sides = own.boxes * torch.tensor([width, height, width, height])
        sides[:, 2:] -= sides[:, :2]
        rows = zip(sides.tolist(), own.labels.tolist(), own.scores.tolist(), strict=True)
        for bbox, label, score in rows:
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": categories.ids[label - 1],
                "bbox": [round(value, 2) for value in bbox],
                "area": round(bbox[2] * bbox[3], 2),
                "iscrowd": 0,
            }
            if score < 1:
                annotation["score"] = round(score, 4)
            annotations.append(annotation)
    named = [{"id": i, "name": n} for i, n in zip(categories.ids, categories.names, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": named}
    atomic_write(path, json.dumps(content))


def _image_boxes(
    store: AnnotationStore, index: int, labels: np.ndarray, scores: np.ndarray
) -> ImageBoxes:
    rows = store.rows(index)
    is_object = ~store.is_crowd[rows]
    height, width = store.size(index)
    boxes = store.boxes[rows][is_object] / np.array([width, height, width, height], np.float32)
    return ImageBoxes(
        torch.from_numpy(boxes),
        torch.from_numpy(labels[rows][is_object].astype(np.int64)),
        torch.from_numpy(scores[rows][is_object]),
    )
