"""The outer shape of a COCO annotation file: an object with images, annotations and categories."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from igcv3det.datasets.store import AnnotationError
from igcv3det.structures import Categories

SECTIONS = ("images", "annotations", "categories")


def read_coco_json(path: Path) -> dict[str, Any]:
    """Reads the file without its polygons, which are most of it.

    Args:
        path: JSON, UTF-8.

    Returns:
        The object, in which ``images``, ``annotations`` and ``categories`` are lists.

    Raises:
        AnnotationError: no such file, not JSON, or a section is missing or not a list.
    """
    return _read(path, _without_polygons)


def load_categories(path: str | Path) -> Categories:
    """Only the categories of a file, in order of their ids.

    Raises:
        AnnotationError: as `read_coco_json`, or the categories are not usable.
    """
    path = Path(path)
    return categories_of(path, _read(path, _without_images_and_annotations))


def categories_of(path: Path, content: dict[str, Any]) -> Categories:
    """The categories of a file that was read, in order of their ids.

    Raises:
        AnnotationError: there are none, one lacks an integer id or a name, or two share one.
    """
    names: dict[int, str] = {}
    for item in content["categories"]:
        number = item.get("id") if isinstance(item, dict) else None
        name = item.get("name") if isinstance(item, dict) else None
        if type(number) is not int or not isinstance(name, str):
            raise AnnotationError(
                f"{path}: categories: needs an integer id and a name, got {str(item)[:80]}"
            )
        if number in names:
            raise AnnotationError(
                f"{path}: categories: id {number} is both {names[number]!r} and {name!r}"
            )
        if name in names.values():
            raise AnnotationError(f"{path}: categories: name {name!r} occurs twice")
        names[number] = name
    if not names:
        raise AnnotationError(f"{path}: categories: the list is empty; there is nothing to learn")
    ids = tuple(sorted(names))
    return Categories(ids, tuple(names[number] for number in ids))


def _read(path: Path, hook: Callable[[dict[str, Any]], dict[str, Any] | None]) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes(), object_hook=hook)
    except FileNotFoundError:
        raise AnnotationError(f"{path}: no such annotation file") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: not a text file: {error}") from None
    except json.JSONDecodeError as error:
        cut = "" if error.doc.rstrip().endswith("}") else "; is the file cut off?"
        raise AnnotationError(
            f"{path}: not JSON at line {error.lineno}, column {error.colno} (character {error.pos} "
            f"of {len(error.doc)}): {error.msg}{cut}"
        ) from None
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: must be a JSON object, got a {type(content).__name__}")
    for section in SECTIONS:
        if section not in content:
            raise AnnotationError(
                f"{path}: has no field {section!r}; a COCO file has {', '.join(SECTIONS)}"
            )
        if not isinstance(content[section], list):
            kind = type(content[section]).__name__
            raise AnnotationError(f"{path}: {section} must be a list, got a {kind}")
    return content


def _without_polygons(item: dict[str, Any]) -> dict[str, Any]:
    item.pop("segmentation", None)
    return item


def _without_images_and_annotations(item: dict[str, Any]) -> dict[str, Any] | None:
    return None if "image_id" in item or "file_name" in item else item
