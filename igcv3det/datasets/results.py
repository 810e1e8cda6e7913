"""The reader of COCO's results format: a JSON list of detections."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.text_files import read_json
from igcv3det.datasets.values import is_box, is_number, require_id, shown, whole_number


class Result(NamedTuple):
    """One detection in a data set's own ids.

    Attributes:
        image_id: at most 63 bits and a sign.
        category_id: likewise.
        bbox: (x, y, width, height), pixels of the original image.
        score: any finite number.
    """

    image_id: int
    category_id: int
    bbox: list[float]
    score: float


def read_results(path: str | Path) -> list[Result]:
    """Reads a file in COCO's results format.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is not a JSON list of detections with image_id, category_id, bbox and
            score; names the entry.
    """
    path = Path(path)
    content = read_json(path)
    if not isinstance(content, list):
        raise AnnotationError(f"{path}: COCO's results format is a JSON list")
    return [parse_result(item, f"{path}: [{index}]") for index, item in enumerate(content)]


def parse_result(item: object, where: str) -> Result:
    """One entry of the format.

    Raises:
        AnnotationError: a field is missing or wrong; names ``where`` and the field.
    """
    if not isinstance(item, Mapping):
        raise AnnotationError(f"{where} is not a detection but {shown(item)}")
    box, score = item.get("bbox"), item.get("score")
    if not is_box(box):
        raise AnnotationError(
            f"{where}: bbox must be four finite numbers x, y, width, height, got {shown(box)}"
        )
    if not is_number(score):
        raise AnnotationError(f"{where}: score must be a number, got {shown(score)}")
    return Result(_id(item, "image_id", where), _id(item, "category_id", where), box, score)  # type: ignore[arg-type]


def _id(item: Mapping[str, Any], field: str, where: str) -> int:
    value = item.get(field)
    number = whole_number(value)
    if number is None:
        raise AnnotationError(f"{where}: {field} must be a whole number, got {shown(value)}")
    return require_id(number, f"{where}: {field}")
