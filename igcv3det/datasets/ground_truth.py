"""COCO annotation files as the evaluator needs them: whole, in the data set's own ids.

Training reads annotations through `datasets.store`, which drops what cannot be learnt; here
nothing is dropped. What the file lacks is filled in in memory, the file itself is never changed.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from igcv3det.structures import Categories

logger = logging.getLogger(__name__)


class ImageRecord(NamedTuple):
    """One image of an annotation file.

    Attributes:
        file_name: as the file has it, relative to the folder of images.
        size: (height, width) in pixels of the frame that the boxes are in, or None if not given.
    """

    file_name: str
    size: tuple[int, int] | None


class Annotation(TypedDict):
    """One object, or crowd region, with the fields that COCO's evaluation reads."""

    id: int
    image_id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int


@dataclass(frozen=True)
class GroundTruth:
    """Images, categories and annotations of one file.

    Attributes:
        path: the file, for messages.
        images: image id to record, in the file's order.
        categories: in the order of their ids.
        annotations: numbered from 1 on whatever ids the file gives them: pycocotools overwrites
            annotations that share an id and takes a match with id 0 for none.
    """

    path: Path
    images: dict[int, ImageRecord]
    categories: Categories
    annotations: list[Annotation]


def read_ground_truth(path: str | Path) -> GroundTruth:
    """Reads a COCO annotation file; "info", "licenses", "area", "iscrowd" and "id" may be missing.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON, or a field that cannot be filled in is missing or wrong; names
            the file and the field.
    """
    path = Path(path)
    content = _read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a COCO annotation file is a JSON object, not a list")
    for field in ("images", "categories"):
        if not isinstance(content.get(field), list):
            raise ValueError(f"{path}: has no list {field!r}, so it is no COCO annotation file")
    images = {
        _integer(image, "id", f"{path}: images[{index}]"): _image(image)
        for index, image in enumerate(content["images"])
    }
    categories = _categories(content["categories"], path)
    annotations = _annotations(content.get("annotations") or [], path)
    ids = set(categories.ids)
    known = [a for a in annotations if a["image_id"] in images and a["category_id"] in ids]
    if len(known) < len(annotations):
        left_out = len(annotations) - len(known)
        logger.warning("%s: %d annotations of unknown images or classes", path, left_out)
    return GroundTruth(path, images, categories, known)


def read_results(path: str | Path) -> list[dict[str, Any]]:
    """Reads a file in COCO's results format.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a JSON list of detections with image_id, category_id, bbox and score.
    """
    path = Path(path)
    content = _read_json(path)
    if not isinstance(content, list):
        raise ValueError(f"{path}: COCO's results format is a JSON list")
    for index, result in enumerate(content):
        where = f"{path}: [{index}]"
        if not isinstance(result, dict):
            raise ValueError(f"{where} is not a detection but {result!r}")
        _integer(result, "image_id", where)
        _integer(result, "category_id", where)
        _box(result, where)
        if not _is_number(result.get("score")):
            raise ValueError(f"{where}: score must be a number, got {result.get('score')!r}")
    return content


def _read_json(path: Path) -> Any:  # noqa: ANN401
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error


def _image(image: Mapping[str, Any]) -> ImageRecord:
    height, width = image.get("height"), image.get("width")
    size = None
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        size = height, width
    return ImageRecord(str(image.get("file_name", "")), size)


def _categories(entries: list[Mapping[str, Any]], path: Path) -> Categories:
    named = {
        _integer(entry, "id", f"{path}: categories[{index}]"): str(entry.get("name", entry["id"]))
        for index, entry in enumerate(entries)
    }
    return Categories(tuple(sorted(named)), tuple(named[i] for i in sorted(named)))


def _annotations(entries: list[Mapping[str, Any]], path: Path) -> list[Annotation]:
    annotations: list[Annotation] = []
    for index, entry in enumerate(entries):
        where = f"{path}: annotations[{index}]"
        box = _box(entry, where)
        area = entry.get("area")
        annotations.append(
            Annotation(
                id=index + 1,
                image_id=_integer(entry, "image_id", where),
                category_id=_integer(entry, "category_id", where),
                bbox=box,
                area=float(area) if _is_number(area) else box[2] * box[3],  # type: ignore[arg-type]
                iscrowd=int(bool(entry.get("iscrowd", 0))),
            )
        )
    return annotations


def _box(entry: Mapping[str, Any], where: str) -> list[float]:
    box = entry.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(x) for x in box):
        raise ValueError(f"{where}: bbox must be four numbers [x, y, width, height], got {box!r}")
    return [float(x) for x in box]


def _integer(entry: Mapping[str, Any], field: str, where: str) -> int:
    value = entry.get(field) if isinstance(entry, Mapping) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where}: {field} must be an integer, got {value!r}")
    return value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
