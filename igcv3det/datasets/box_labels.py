"""Boxes of the images that a student learns from: true ones, other detectors', or both.

The file is a COCO annotation file. An annotation may have a ``score``: then it is some detector's
opinion, and without one it is true. Images are found by their file names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from igcv3det.datasets.coco import categories_of, read_coco_json
from igcv3det.datasets.store import AnnotationError
from igcv3det.structures import Categories, Detections


class ImageBoxes(NamedTuple):
    """Boxes of one image.

    Attributes:
        boxes: [N, 4] float32 xyxy, as shares of width and height.
        labels: [N] int64 in 1..K.
        scores: [N] float32; 1 for true boxes.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor


def read_labels(path: str | Path, categories: Categories) -> dict[str, ImageBoxes]:
    """Reads a file of boxes.

    Args:
        path: COCO JSON, ``score`` allowed in annotations; crowd regions are left out.
        categories: the detector's; the file's categories must be among them, by id and name.

    Returns:
        The boxes of every image of the file, by file name without folders; images without boxes
        are there too.

    Raises:
        AnnotationError: the file cannot be understood; names the file and the entry.
    """
    path = Path(path)
    content = read_coco_json(path)
    own = categories_of(path, content)
    known = dict(zip(categories.ids, categories.names, strict=True))
    unknown = [f"{i} {n!r}" for i, n in zip(own.ids, own.names, strict=True) if known.get(i) != n]
    if unknown:
        raise AnnotationError(f"{path}: categories: the detector has no {', '.join(unknown[:5])}")
    labels = {number: label for label, number in enumerate(categories.ids, start=1)}
    images = {}
    rows: dict[str, list[tuple[list[float], int, float]]] = {}
    for image in content["images"]:
        try:
            name = Path(image["file_name"]).name
            width, height = float(image["width"]), float(image["height"])
            images[image["id"]] = name, width, height
        except (KeyError, TypeError, ValueError) as error:
            raise AnnotationError(f"{path}: images: {str(image)[:80]} lacks {error}") from error
        if not (width > 0 and height > 0):
            raise AnnotationError(f"{path}: images: {name!r} is {width:g} by {height:g} pixels")
        if name in rows:
            raise AnnotationError(f"{path}: images: file name {name!r} occurs twice")
        rows[name] = []
    for annotation in content["annotations"]:
        try:
            name, width, height = images[annotation["image_id"]]
            x, y, w, h = (float(value) for value in annotation["bbox"])
            label = labels[annotation["category_id"]]
            score = float(annotation.get("score", 1.0))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise AnnotationError(
                f"{path}: annotations: {str(annotation)[:80]}: {error}"
            ) from error
        if not math.isfinite(x + y + w + h):
            raise AnnotationError(f"{path}: annotations: bbox {[x, y, w, h]} of {name!r}")
        if not 0 <= score <= 1:
            raise AnnotationError(f"{path}: annotations: score {score} is not in 0..1")
        if w > 0 and h > 0 and not annotation.get("iscrowd", 0):
            sides = [x / width, y / height, (x + w) / width, (y + h) / height]
            rows[name].append((sides, label, score))
    return {name: _packed(of_image) for name, of_image in rows.items()}


def with_true_boxes(
    fused: Mapping[str, ImageBoxes], true: Mapping[str, ImageBoxes], labels: Sequence[int]
) -> dict[str, ImageBoxes]:
    """Puts true boxes in place of detectors' opinions, for the classes that were annotated.

    Args:
        fused: detectors' boxes of images.
        true: true boxes of some of them.
        labels: the classes that ``true`` knows; of all others the detectors' boxes stay.
    """
    merged = dict(fused)
    known = torch.tensor(list(labels), dtype=torch.int64)
    for name, own in true.items():
        opinions = fused.get(name, _packed([]))
        kept = ~torch.isin(opinions.labels, known)
        pairs = zip(own, opinions, strict=True)
        merged[name] = ImageBoxes(*(torch.cat([a, b[kept]]) for a, b in pairs))
    return merged


def boxes_of_record(record: Mapping[str, Any], categories: Categories) -> Detections:
    """A record of ``tools/infer.py --json`` as detections.

    Raises:
        ValueError: a category that the detector does not have, or a field is missing.
    """
    labels = {number: label for label, number in enumerate(categories.ids, start=1)}
    try:
        found = record["detections"]
        return Detections(
            torch.tensor([item["box"] for item in found], dtype=torch.float32).reshape(-1, 4),
            torch.tensor([item["score"] for item in found], dtype=torch.float32),
            torch.tensor([labels[item["category_id"]] for item in found], dtype=torch.int64),
            categories,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"record of {record.get('file')}: lacks {error}") from error


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
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def _packed(rows: Sequence[tuple[list[float], int, float]]) -> ImageBoxes:
    boxes = np.array([sides for sides, _, _ in rows], dtype=np.float32).reshape(-1, 4)
    return ImageBoxes(
        torch.from_numpy(boxes),
        torch.tensor([label for _, label, _ in rows], dtype=torch.int64),
        torch.tensor([score for _, _, score in rows], dtype=torch.float32),
    )
