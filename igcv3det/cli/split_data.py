"""Splits a COCO annotation file into one for training and one for validation.

Usage:
    python tools/split_data.py all.json --output FOLDER [--share 0.2] [--seed 0]
    python tools/split_data.py all.json --output FOLDER --validation names.txt

Writes FOLDER/instances_train.json and FOLDER/instances_val.json. ``names.txt`` has an image a
line, with or without its ending; otherwise a share is drawn at random. Every image goes to one of
the two with all its annotations; both get all categories. Exit status: 0 written, 1 could not, 2
wrong call.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from igcv3det.datasets.coco import categories_of, read_coco_json


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parse(args)
    try:
        content = read_coco_json(options.annotations)
        categories_of(options.annotations, content)
        images = [_image(image, options.annotations) for image in content["images"]]
        chosen = _chosen(images, options)
        for split, wanted in (("train", False), ("val", True)):
            own = [image for image in images if (image["id"] in chosen) == wanted]
            path = options.output / f"instances_{split}.json"
            _write(path, content, own)
            print(f"{path}: {len(own)} images")
    except (OSError, ValueError) as error:
        print(f"split_data: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("annotations", type=Path, metavar="JSON")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--validation", type=Path, metavar="FILE", help="names of its images")
    parser.add_argument("--share", type=float, default=0.2, help="drawn for validation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(args)
    if not 0 < options.share < 1:
        parser.error(f"--share must be between 0 and 1, got {options.share}")
    return options


def _image(image: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(image, dict) or "id" not in image or "file_name" not in image:
        raise ValueError(f"{path}: images: needs an id and a file_name, got {str(image)[:80]}")
    return image


def _chosen(images: list[dict[str, Any]], options: argparse.Namespace) -> set[int]:
    """Ids of the validation images."""
    if options.validation:
        lines = options.validation.read_text(encoding="utf-8").split("\n")
        names = {Path(line.strip()).name for line in lines if line.strip()}
        by_name = {}
        for image in images:
            name = Path(image["file_name"])
            by_name[name.name] = by_name[name.stem] = image["id"]
        unknown = sorted(names - by_name.keys())
        if unknown:
            raise ValueError(
                f"{options.validation}: no such image in the annotations: {unknown[0]}"
            )
        chosen = {by_name[name] for name in names}
    else:
        count = round(options.share * len(images))
        rows = np.random.default_rng(options.seed).permutation(len(images))[:count]
        chosen = {images[row]["id"] for row in rows}
    if not 0 < len(chosen) < len(images):
        raise ValueError(
            f"{options.annotations}: {len(chosen)} of {len(images)} images for validation leaves "
            "one of the two empty"
        )
    return chosen


def _write(path: Path, content: dict[str, Any], images: list[dict[str, Any]]) -> None:
    ids = {image["id"] for image in images}
    own = [a for a in content["annotations"] if a.get("image_id") in ids]
    path.parent.mkdir(parents=True, exist_ok=True)
    split = {**content, "images": images, "annotations": own}
    path.write_text(json.dumps(split), encoding="utf-8")
