"""Annotation files and images with random mutations, for fuzzing."""

from __future__ import annotations

import io
import json
import math
import random
from typing import Any

import numpy as np
import PIL.Image

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 1.0, 2.0, 0.5, -3.5, 1e300, 1e20),
    *(math.nan, math.inf, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**50),
    *("", "0", "1", "7", "x", "1.png", "../1.png", "/1.png", "a\\b.png", "\ud800", "\0", "é" * 300),
    *([], {}, [1], [1, 2, 3, 4], [0, 0, 5, 5], [1, 2, -3, 4], [-9, -9, 400, 400]),
    *([0.5, 0.5, 0.1, 0.1], [250, 3, 4, 5], [1, 2, math.nan, 4], ["1", 2, 3, 4], [True, 0, 5, 5]),
    *([[[1]]], {"id": 1}, {"counts": "abc", "size": [2, 3]}),
)
"""Values that replace a field or an entry of an annotation file."""
FIELDS = (
    *("id", "image_id", "category_id", "bbox", "iscrowd", "area", "score", "segmentation"),
    *("file_name", "width", "height", "name"),
)
SECTIONS = ("images", "annotations", "categories")
SIZE = (48, 64)
"""(height, width) of the images of `sound_content` and `sound_image`, pixels."""
OTHER_FORMATS = (
    b"names:\n  0: cat\n  1: dog\ntrain: images/train\n",
    b"0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n",
    b'<?xml version="1.0"?><annotation><object><name>cat</name></object></annotation>',
    b"image,xmin,ymin,xmax,ymax,label\n1.png,1,2,3,4,cat\n",
    b"",
    b"[" * 5000,
    b'{"images": ' * 3000,
    b'{"images": [], "annotations": [], "categories": [{"id": ' + b"9" * 5000 + b"}]}",
)


def sound_content(draw: random.Random) -> dict[str, Any]:
    """A small COCO file without a mistake."""
    height, width = SIZE
    images = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
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
    """Makes one random change to the content of an annotation file, in place."""
    section = draw.choice(SECTIONS)
    entries = content.get(section)
    if draw.random() < 0.03:
        content[section] = draw.choice(VALUES)
    elif draw.random() < 0.02:
        content.pop(section, None)
    if isinstance(entries, list):
        _mutate_entries(entries, draw)


def mutated_file(draw: random.Random) -> bytes:
    """An annotation file with up to three mistakes in its values, its text or its bytes."""
    content = sound_content(draw)
    for _ in range(draw.randint(0, 3)):
        mutate(content, draw)
    data = json.dumps(content, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    kind = draw.randrange(12)
    if kind == 0:
        return draw.choice(OTHER_FORMATS)
    if kind == 1:
        return data.decode("utf-8", "replace").encode(
            draw.choice(("utf-16", "utf-32", "utf-8-sig"))
        )
    return mutated_bytes(data, draw) if kind in (2, 3) else data


def sound_image(draw: random.Random) -> tuple[str, bytes]:
    """A small image in one of several formats: the ending of its name, and the file."""
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (*SIZE, 3), np.uint8)
    image = PIL.Image.fromarray(pixels)
    ending, options = draw.choice(
        (
            ("jpg", {"quality": 90}),
            ("jpg", {"progressive": True}),
            ("png", {}),
            ("gif", {}),
            ("bmp", {}),
            ("tiff", {}),
            ("webp", {"lossless": True}),
            ("ppm", {}),
            ("jp2", {}),
        )
    )
    if ending in ("jpg", "png", "tiff", "webp") and draw.random() < 0.5:
        exif = PIL.Image.Exif()
        exif[0x0112] = draw.randint(0, 9)
        options = {**options, "exif": exif}
    if ending in ("jpg", "png", "tiff") and draw.random() < 0.3:
        image = image.convert(draw.choice(("L", "CMYK" if ending != "png" else "RGBA", "RGB")))
    file = io.BytesIO()
    image.save(
        file, {"jpg": "JPEG", "jp2": "JPEG2000", "ppm": "PPM"}.get(ending, ending), **options
    )
    return ending, file.getvalue()


def mutated_bytes(data: bytes, draw: random.Random) -> bytes:
    """Cuts, overwrites, inserts or repeats some bytes, more often near the beginning."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        if not changed:
            break
        place = int(len(changed) * draw.random() ** draw.choice((1, 3)))
        length = draw.choice((1, 1, 2, 4, 16, 200))
        kind = draw.randrange(6)
        if kind == 0:
            del changed[place:]
        elif kind == 1:
            del changed[place : place + length]
        elif kind == 2:
            changed[place:place] = draw.randbytes(length)
        elif kind == 3:
            changed[place : place + length] = changed[:length]
        else:
            changed[place : place + length] = draw.choice(
                (draw.randbytes(length), b"\0" * length, b"\xff" * length)
            )
    return bytes(changed)


def _mutate_entries(entries: list[Any], draw: random.Random) -> None:
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
        known = [field for field in FIELDS if field in entry]
        field = draw.choice(known if known and draw.random() < 0.9 else FIELDS)
        changed = dict(entry)
        if kind == 4:
            changed.pop(field, None)
        else:
            changed[field] = draw.choice(VALUES)
        entries[row] = changed
