"""Annotation files with mistakes: a sound file and a few random changes to it."""

from __future__ import annotations

import math
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 1.0, 2.0, 0.5, -3.5, 1e300, 1e20),
    *(math.nan, math.inf, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**50),
    *("", "0", "1", "7", "x", "1.png", "../1.png", "/1.png", "a\\b.png", "\ud800", "\0", "é" * 300),
    *([], {}, [1], [1, 2, 3, 4], [0, 0, 5, 5], [1, 2, -3, 4], [-9, -9, 400, 400]),
    *([0.5, 0.5, 0.1, 0.1], [250, 3, 4, 5], [1, 2, math.nan, 4], ["1", 2, 3, 4], [True, 0, 5, 5]),
    *([[[1]]], {"id": 1}, {"counts": "abc", "size": [2, 3]}),
)
FIELDS = (
    *("id", "image_id", "category_id", "bbox", "iscrowd", "area", "score", "segmentation"),
    *("file_name", "width", "height", "name"),
)
SECTIONS = ("images", "annotations", "categories")


def sound_content(draw: random.Random) -> dict[str, Any]:
    """A small COCO file without a mistake."""
    images = [
        {"id": number, "file_name": f"{number}.png", "width": 64, "height": 48}
        for number in range(1, draw.randint(2, 5))
    ]
    annotations = [
        {
            "id": number,
            "image_id": draw.choice(images)["id"],
            "category_id": draw.choice((3, 7)),
            "bbox": [draw.randint(0, 40), draw.randint(0, 30), draw.randint(2, 20), 9.5],
            "area": 50,
            "iscrowd": int(draw.random() < 0.2),
            "segmentation": [[1, 2, 3, 4, 5, 6]],
        }
        for number in range(draw.randint(0, 8))
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def mutate(content: dict[str, Any], draw: random.Random) -> None:
    """Makes one random change, in place."""
    section = draw.choice(SECTIONS)
    entries = content.get(section)
    if draw.random() < 0.03:
        content[section] = draw.choice(VALUES)
    elif draw.random() < 0.02:
        content.pop(section, None)
    if not isinstance(entries, list):
        return
    kind = draw.randrange(6)
    if not entries or kind == 0:
        entries.insert(draw.randint(0, len(entries)), draw.choice(VALUES))
        return
    row = draw.randrange(len(entries))
    entry = entries[row]
    if kind == 1:
        entries.append(entry)
    elif kind == 2:
        del entries[row]
    elif kind == 3:
        entries[row] = draw.choice(VALUES)
    elif isinstance(entry, dict):
        fields = [field for field in FIELDS if field in entry] or list(FIELDS)
        field = draw.choice(fields if draw.random() < 0.9 else FIELDS)
        changed = dict(entry)
        if kind == 4:
            changed.pop(field, None)
        else:
            changed[field] = draw.choice(VALUES)
        entries[row] = changed
