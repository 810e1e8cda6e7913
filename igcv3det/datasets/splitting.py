"""Which images of a COCO file make its validation split, and a file of some of its images."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.values import shown, whole_number

Image = tuple[int, str]
"""Id and file name."""


def images_of(content: dict[str, Any]) -> list[Image]:
    """Id and file name of every image of a file.

    Raises:
        AnnotationError: an entry lacks one of them; names the entry.
    """
    images = []
    for position, item in enumerate(content["images"]):
        number = whole_number(item.get("id")) if isinstance(item, dict) else None
        name = item.get("file_name") if isinstance(item, dict) else None
        if number is None or not isinstance(name, str) or not name:
            raise AnnotationError(
                f"images[{position}]: needs a whole number as id and a file_name, got {shown(item)}"
            )
        images.append((number, name))
    return images


def random_images(images: Sequence[Image], share: float, seed: int) -> set[int]:
    """Ids of a random share of the images; all ids of one file are chosen, or none."""
    ids_of: dict[PurePosixPath, list[int]] = {}
    for number, name in images:
        ids_of.setdefault(_path(name), []).append(number)
    files = list(ids_of.values())
    count = round(share * len(files))
    rows = np.random.default_rng(seed).permutation(len(files))[:count]
    return {number for row in rows for number in files[row]}


def named_images(images: Sequence[Image], names: Sequence[str]) -> set[int]:
    """Ids of the images that a list names.

    A name may lack its extension and leading folders, and may have folders before those of the
    annotation file; every folder that both have must agree. Backslashes count as slashes.

    Args:
        images: of the annotation file.
        names: one for each wanted image; blank ones are passed over.

    Raises:
        AnnotationError: a name fits no image, or several.
    """
    by_name: dict[str, list[tuple[int, PurePosixPath]]] = {}
    for number, file_name in images:
        path = _path(file_name)
        for name in dict.fromkeys((path.name, path.stem)):
            by_name.setdefault(name, []).append((number, path))
    chosen = set()
    for name in names:
        if not name.strip():
            continue
        wanted = _path(name.strip())
        found = [pair for pair in by_name.get(wanted.name, []) if _agree(pair[1], wanted)]
        exact = [pair for pair in found if wanted in (pair[1], pair[1].parent / pair[1].stem)]
        if not found:
            raise AnnotationError(f"no such image in the annotations: {name.strip()}")
        pairs = exact or found
        paths = sorted({str(path) for _, path in pairs})
        if len(paths) > 1:
            several = ", ".join(paths[:3])
            raise AnnotationError(f"{name.strip()} is the name of several images: {several}")
        chosen |= {number for number, _ in pairs}
    return chosen


def part_of(content: dict[str, Any], ids: set[int]) -> dict[str, Any]:
    """The content of a file with some of its images and their annotations."""
    images = [image for image in content["images"] if whole_number(image["id"]) in ids]
    annotations = [
        item
        for item in content["annotations"]
        if isinstance(item, dict) and whole_number(item.get("image_id")) in ids
    ]
    return {**content, "images": images, "annotations": annotations}


def _path(name: str) -> PurePosixPath:
    composed = unicodedata.normalize("NFC", name.replace("\\", "/"))
    return PurePosixPath(os.path.normpath(composed))


def _agree(path: PurePosixPath, wanted: PurePosixPath) -> bool:
    """Whether the folders that both have, from the file upwards, are the same."""
    folders = zip(reversed(path.parent.parts), reversed(wanted.parent.parts), strict=False)
    return all(own == other for own, other in folders)
