"""A record as the content of a COCO annotation file."""

from __future__ import annotations

import math
from typing import Any

from igcv3det.datasets.record import NO_ID, AnnotationRecord


def coco_content(record: AnnotationRecord) -> dict[str, Any]:
    """The content of a COCO file that `datasets.coco.read_coco` reads as the record.

    Boxes, areas and names are not rounded. Annotations without an id are numbered.
    """
    images = [
        {
            "id": entry.image_id,
            "file_name": entry.file_name,
            **({"width": entry.size[1], "height": entry.size[0]} if entry.size else {}),
        }
        for entry in record.images
    ]
    has_ids = not (record.annotation_ids == NO_ID).any()
    image_ids = record.images.ids[record.image_rows].tolist()
    category_ids = [record.categories.ids[label - 1] for label in record.labels.tolist()]
    annotations = []
    for row, box in enumerate(record.boxes.tolist()):
        annotation = {
            "id": int(record.annotation_ids[row]) if has_ids else row + 1,
            "image_id": image_ids[row],
            "category_id": category_ids[row],
            "bbox": [_plain(value) for value in box],
            "area": _plain(float(record.areas[row])),
            "iscrowd": int(record.is_crowd[row]),
        }
        score = float(record.scores[row])
        if not math.isnan(score):
            annotation["score"] = score
        annotations.append(annotation)
    pairs = zip(record.categories.ids, record.categories.names, strict=True)
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in pairs],
    }


def _plain(value: float) -> float | int:
    """Whole numbers without a fraction, as people write them."""
    return int(value) if value.is_integer() else value
