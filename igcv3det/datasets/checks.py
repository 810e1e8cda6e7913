"""The check of a COCO annotation file when it is loaded.

A file that cannot be understood is refused. A single image or annotation that is wrong is dropped
(a box that sticks out is clipped) and recorded, or refused too in strict mode. The file itself is
never changed: evaluation reads the original.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from igcv3det.datasets.coco import categories_of, read_coco_json
from igcv3det.datasets.issues import DatasetIssue, IssueKind, summarize
from igcv3det.datasets.store import AnnotationError, AnnotationStore, ImageEntry, build_store
from igcv3det.structures import Categories

logger = logging.getLogger(__name__)

ROUNDING_PX = 1.0
"""A box may stick out so far without being counted: annotation tools round."""
MIN_SIDE_PX = 1.0
"""Smaller boxes, measured inside the image, teach nothing and upset the box coder's logarithm."""
_LARGEST = 2.0**31
"""Beyond any image; not reached by infinity, and not by NaN either."""


class CheckedAnnotations(NamedTuple):
    """What is right of an annotation file, and what was wrong."""

    store: AnnotationStore
    faults: list[DatasetIssue]


def load_annotations(
    path: str | Path, images: str | Path | None = None, strict: bool = False
) -> CheckedAnnotations:
    """Reads and checks a COCO annotation file.

    Args:
        path: JSON with ``images``, ``annotations`` and ``categories``; polygons are not kept.
        images: folder of the images; if given, images without a file are faults (no file is
            opened).
        strict: refuse the file for any fault.

    Returns:
        The images in the order of the file, with their boxes, and all faults; a summary is logged.

    Raises:
        AnnotationError: the file cannot be understood, no image is left, or strict mode found
            faults.
    """
    path = Path(path)
    content = read_coco_json(path)
    faults: list[DatasetIssue] = []
    entries = _usable_images(content["images"], str(path), faults)
    if images is not None:
        entries = _with_files(entries, Path(images), str(path), faults)
    store = _usable_boxes(
        content["annotations"], entries, categories_of(path, content), str(path), faults
    )
    if faults:
        if strict:
            raise AnnotationError(f"{summarize(faults)}; mend the file, or load it without strict")
        logger.warning("%s; these are dropped, or clipped", summarize(faults))
    if not entries:
        raise AnnotationError(f"{path}: images: none is left that can be used")
    return CheckedAnnotations(store, faults)


def require_same_categories(
    train: Categories, train_file: str | Path, val: Categories, val_file: str | Path
) -> None:
    """Refuses two files whose categories differ in an id or a name.

    Raises:
        AnnotationError: naming the files and the first differences.
    """
    ours = dict(zip(train.ids, train.names, strict=True))
    theirs = dict(zip(val.ids, val.names, strict=True))
    differing = [i for i in sorted(ours | theirs) if ours.get(i) != theirs.get(i)]
    if differing:
        shown = ", ".join(f"{i}: {ours.get(i)!r} and {theirs.get(i)!r}" for i in differing[:5])
        raise AnnotationError(
            f"{train_file} and {val_file}: categories differ in {len(differing)} ids ({shown}); "
            "both must list the same ids and names, whether they occur or not"
        )


def _usable_images(items: list[Any], file: str, faults: list[DatasetIssue]) -> list[ImageEntry]:
    entries: dict[int, ImageEntry] = {}
    for item in items:
        fault = _image_fault(item, entries)
        if fault is None:
            size = (int(item["height"]), int(item["width"]))
            entries[item["id"]] = ImageEntry(item["id"], item["file_name"], size)
        else:
            image_id = item.get("id") if isinstance(item, dict) else None
            faults.append(DatasetIssue(fault[0], file, image_id, None, fault[1]))
    return list(entries.values())


def _image_fault(item: Any, known: dict[int, ImageEntry]) -> tuple[IssueKind, str] | None:  # noqa: ANN401
    if not isinstance(item, dict) or type(item.get("id")) is not int:
        return "bad image entry", f"images: needs an integer id, got {str(item)[:80]}"
    name = item.get("file_name")
    if not isinstance(name, str) or not name:
        return "bad image entry", f"file_name must be a string, got {name!r}"
    if item["id"] in known:
        return "duplicate image id", f"{name}, but {known[item['id']].file_name} has this id"
    width, height = item.get("width"), item.get("height")
    if not all(isinstance(side, (int, float)) and 1 <= side < _LARGEST for side in (width, height)):
        return "bad image size", f"width and height must be >= 1, got {width!r} and {height!r}"
    return None


def _with_files(
    entries: list[ImageEntry], folder: Path, file: str, faults: list[DatasetIssue]
) -> list[ImageEntry]:
    """The entries whose file is there; folders are listed, files are not opened."""
    if not folder.is_dir():
        raise AnnotationError(f"{folder}: no such folder; the images of {file} should be in it")
    parents = {(folder / entry.file_name).parent for entry in entries}
    present = {path for parent in parents if parent.is_dir() for path in parent.iterdir()}
    found = []
    for entry in entries:
        path = folder / entry.file_name
        if path in present:
            found.append(entry)
        else:
            faults.append(
                DatasetIssue(
                    "missing file", file, entry.image_id, None, f"file_name: no file {path}"
                )
            )
    if entries and not found:
        raise AnnotationError(
            f"{folder}: has none of the {len(entries)} images of {file} (file_name of the first: "
            f"{entries[0].file_name}); is it the right folder?"
        )
    return found


def _usable_boxes(
    items: list[Any],
    entries: list[ImageEntry],
    categories: Categories,
    file: str,
    faults: list[DatasetIssue],
) -> AnnotationStore:
    rows = {entry.image_id: row for row, entry in enumerate(entries)}
    known_images = rows.keys() | {f.image_id for f in faults if type(f.image_id) is int}
    labels = {number: label for label, number in enumerate(categories.ids, start=1)}
    seen: set[int] = set()
    # numbers only, a row a box: image, x0, y0, x1, y1, label, crowd
    kept = np.empty((len(items), 7), dtype=np.float64)
    count = 0
    for item in items:
        fault, box = _annotation_fault(item, seen, known_images, labels), None
        if fault is None:
            seen.add(item["id"])
            row = rows.get(item["image_id"])
            if row is None:
                continue
            fault, box = _clip(item["bbox"], *entries[row].size)
        if box is not None:
            kept[count] = row, *box, labels[item["category_id"]], item.get("iscrowd", 0)
            count += 1
        if fault is not None:
            ids = (item.get("image_id"), item.get("id")) if isinstance(item, dict) else (None, None)
            faults.append(DatasetIssue(fault[0], file, *ids, fault[1]))
    kept = kept[:count]
    return build_store(
        categories,
        entries,
        image_indices=kept[:, 0].astype(np.int32),
        boxes=kept[:, 1:5].astype(np.float32),
        labels=kept[:, 5].astype(np.int16),
        is_crowd=kept[:, 6].astype(np.bool_),
    )


def _annotation_fault(
    item: Any,  # noqa: ANN401
    seen: set[int],
    known_images: set[int],
    labels: dict[int, int],
) -> tuple[IssueKind, str] | None:
    """What makes an annotation unusable whatever its image looks like."""
    if not isinstance(item, dict) or type(item.get("id")) is not int:
        return "bad annotation", f"annotations: needs an integer id, got {str(item)[:80]}"
    if item["id"] in seen:
        return "duplicate annotation id", "id: an earlier annotation has it"
    if type(item.get("image_id")) is not int or item["image_id"] not in known_images:
        return "unknown image", f"image_id: {item.get('image_id')!r} is not among the images"
    if type(item.get("category_id")) is not int or item["category_id"] not in labels:
        number = item.get("category_id")
        return "unknown category", f"category_id: {number!r} is not among the categories"
    if item.get("iscrowd", 0) not in (0, 1):
        return "bad annotation", f"iscrowd must be 0 or 1, got {item['iscrowd']!r}"
    box = item.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_coordinate, box)):
        return "bad box", f"bbox must be four finite numbers x, y, width, height, got {box!r}"
    if box[2] <= 0 or box[3] <= 0:
        return "no area", f"bbox: width and height must be > 0, got {box}"
    return None


def _is_coordinate(value: Any) -> bool:  # noqa: ANN401
    return type(value) in (int, float) and -_LARGEST < value < _LARGEST


def _clip(
    bbox: list[float], height: int, width: int
) -> tuple[tuple[IssueKind, str] | None, tuple[float, float, float, float] | None]:
    """The xyxy box inside the image, if it is usable, and what is wrong with it."""
    x0, y0 = bbox[0], bbox[1]
    x1, y1 = x0 + bbox[2], y0 + bbox[3]
    detail = f"bbox: {bbox} in an image of {width} x {height}"
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        return ("outside", detail), None
    box = (max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height))
    if box[2] - box[0] < MIN_SIDE_PX or box[3] - box[1] < MIN_SIDE_PX:
        return ("too small", detail), None
    if max(-x0, -y0, x1 - width, y1 - height) > ROUNDING_PX:
        return ("clipped", detail), box
    return None, box
