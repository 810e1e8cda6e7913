"""Splits a COCO annotation file into a training and a validation file.

Examples:
    igcv3det split-data all.json --output FOLDER --share 0.2 --seed 0
    igcv3det split-data all.json --output FOLDER --validation names.txt

Writes FOLDER/instances_train.json and FOLDER/instances_val.json. ``names.txt`` has one image a
line, with or without its extension; without it, a random share is chosen. Every image goes to one
of the two with all its annotations; both get all categories. Exit status: 0 written, 1 could not,
2 wrong call.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from igcv3det.cli.command import command_parser, run_command


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("split-data", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("split-data", __doc__)
    add = parser.add_argument
    add("annotations", type=Path, metavar="JSON", help="COCO annotation file to split")
    add("--output", type=Path, required=True, metavar="FOLDER", help="folder for the two files")
    add("--validation", type=Path, metavar="FILE", help="names of validation images, one a line")
    add("--share", type=float, default=0.2, help="share of validation images (default: 0.2)")
    add("--seed", type=int, default=0, help="seed of the random choice (default: 0)")
    options = parser.parse_args(args)
    if not 0 < options.share < 1:
        parser.error(f"--share must be between 0 and 1, got {options.share}")
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.datasets.coco import categories_of, read_coco_json

    content = read_coco_json(options.annotations)
    categories_of(options.annotations, content)
    images = [_image(image, options.annotations) for image in content["images"]]
    chosen = _chosen(images, options)
    for split, wanted in (("train", False), ("val", True)):
        own = [image for image in images if (image["id"] in chosen) == wanted]
        path = options.output / f"instances_{split}.json"
        _write(path, content, own)
        print(f"{path}: {len(own)} images")
    return 0


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
        import numpy as np

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
