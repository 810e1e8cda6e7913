"""The reader of COCO's annotation files: a JSON object with images, annotations and categories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from igcv3det.datasets.builder import RawAnnotation, RecordBuilder
from igcv3det.datasets.issues import AnnotationError, DatasetIssue
from igcv3det.datasets.record import AnnotationRecord
from igcv3det.datasets.text_files import read_json
from igcv3det.datasets.values import require_id, shown, whole_number
from igcv3det.structures import Categories

_FIELDS = ("image_id", "category_id", "bbox", "iscrowd", "area", "score", "id")  # RawAnnotation
SECTIONS = ("images", "annotations", "categories")


def read_coco(path: str | Path) -> AnnotationRecord:
    """Reads a COCO annotation file.

    "info", "licenses", "annotations" and an annotation's "id", "area" and "iscrowd" may be missing.
    Polygons are not kept.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is not COCO's JSON, its categories cannot be used, or an id has more
            than 63 bits.
    """
    path = Path(path)
    content = read_sections(path, _without_polygons)
    categories, issues = _categories(path, content["categories"])
    builder = RecordBuilder(path, categories, issues)
    for position, image in enumerate(content["images"]):
        if isinstance(image, dict):
            get = image.get
            builder.add_image(get("id"), get("file_name"), get("width"), get("height"), position)
        else:
            builder.add_bad_entry("images", image, position)
    for position, item in enumerate(content["annotations"]):
        if isinstance(item, dict):
            builder.add_annotation(RawAnnotation(*map(item.get, _FIELDS)), position)
        else:
            builder.add_bad_entry("annotations", item, position)
    return builder.build()


def load_categories(path: str | Path) -> Categories:
    """The categories of a COCO file, in order of their ids.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: as `read_coco`.
    """
    return read_coco(path).categories


def read_sections(
    path: Path, hook: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """The whole content of a COCO file; ``images``, ``annotations`` and ``categories`` are lists.

    Args:
        path: of the file.
        hook: replaces every JSON object of the file, innermost first.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is not JSON, or a section is missing or not a list.
    """
    content = read_json(path, hook)
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise AnnotationError(f"{path}: a COCO file is a JSON object, not a {kind}")
    if content.get("annotations") is None:
        content["annotations"] = []
    for section in SECTIONS:
        if section not in content:
            raise AnnotationError(
                f"{path}: has no field {section!r}; a COCO file has {', '.join(SECTIONS)}"
            )
        if not isinstance(content[section], list):
            kind = type(content[section]).__name__
            raise AnnotationError(f"{path}: {section} must be a list, got {kind}")
    return content


def category_name(entry: Mapping[str, Any], number: object) -> Any:  # noqa: ANN401 (as given)
    """The name of an entry of ``categories``; its number where the name is missing or null."""
    name = entry.get("name")
    return str(number) if name is None else name


def _categories(path: Path, items: list[Any]) -> tuple[Categories, list[DatasetIssue]]:
    """The categories in order of their ids; one without a name is named by its id."""
    names: dict[int, str] = {}
    known: set[str] = set()
    issues: list[DatasetIssue] = []
    for position, item in enumerate(items):
        where = f"{path}: categories[{position}]"
        number = whole_number(item.get("id")) if isinstance(item, dict) else None
        name = category_name(item, number) if isinstance(item, dict) else None
        if number is None or not isinstance(name, str):
            raise AnnotationError(f"{where}: needs a whole number as id and a name: {shown(item)}")
        require_id(number, where)
        if number in names:
            raise AnnotationError(f"{where}: id {number} is both {names[number]!r} and {name!r}")
        if name in known:
            detail = f"categories[{position}]: {name!r} is the name of two categories"
            issues.append(DatasetIssue("duplicate category name", str(path), None, None, detail))
        names[number] = name
        known.add(name)
    if not names:
        raise AnnotationError(f"{path}: categories: the list is empty")
    ids = tuple(sorted(names))
    return Categories(ids, tuple(names[number] for number in ids)), issues


def _without_polygons(item: dict[str, Any]) -> dict[str, Any]:
    item.pop("segmentation", None)
    return item
