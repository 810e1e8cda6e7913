"""Makes one set of boxes of several detectors' findings, for a student to learn from.

Usage:
    python tools/infer.py IMAGES --checkpoint A.safetensors --threshold 0.05 --json a.json
    python tools/infer.py IMAGES --checkpoint B.onnx --threshold 0.05 --json b.json
    python tools/fuse_boxes.py a.json b.json --output boxes.json
    python tools/fuse_boxes.py a.json b.json --true voc.json --classes person,dog --output c.json

The records are those of ``tools/infer.py --json``; one of COCO's 80 classes each. ``--true`` names
annotations of some of the images: their boxes take the place of the detectors' for the classes
of ``--classes``, which must be those that were annotated completely. The output is a COCO
annotation file with scores. Exit status: 0 written, 1 could not, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch

from igcv3det.datasets.box_labels import (
    ImageBoxes,
    boxes_of_record,
    read_labels,
    with_true_boxes,
    write_labels,
)
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.tasks.distill.fusion import fuse


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parse(args)
    try:
        labels = [COCO_CATEGORIES.names.index(name) + 1 for name in options.classes]
        records = [_records(path) for path in options.records]
        images, sizes = _fused(records, options)
        if options.true:
            true = read_labels(options.true, COCO_CATEGORIES)
            missing = sorted(set(true) - set(images))
            if missing:
                raise ValueError(f"{options.true}: no detector saw {missing[:3]}")
            images = with_true_boxes(images, true, labels)
        write_labels(options.output, images, sizes, COCO_CATEGORIES)
    except (OSError, ValueError) as error:
        print(f"fuse_boxes: {error}", file=sys.stderr)
        return 1
    boxes = sum(len(own.boxes) for own in images.values())
    print(f"{options.output}: {len(images)} images, {boxes} boxes")
    return 0


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORDS", help="JSON of infer.py")
    parser.add_argument("--output", type=Path, required=True, metavar="JSON")
    parser.add_argument("--iou", type=float, default=0.6, help="more overlap means one object")
    parser.add_argument("--threshold", type=float, default=0.05, help="weaker boxes are left out")
    parser.add_argument("--true", type=Path, metavar="JSON", help="true boxes of some images")
    parser.add_argument(
        "--classes",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAMES",
        help="classes that --true annotates completely, by name, with commas between",
    )
    options = parser.parse_args(args)
    unknown = set(options.classes) - set(COCO_CATEGORIES.names)
    if unknown:
        parser.error(f"--classes: COCO has no {', '.join(sorted(unknown))}")
    if bool(options.true) != bool(options.classes):
        parser.error("--true and --classes go together")
    if not (0 < options.iou <= 1 and 0 <= options.threshold < 1):
        parser.error("--iou must be in (0, 1] and --threshold in [0, 1)")
    return options


def _records(path: Path) -> dict[str, dict[str, Any]]:
    """Records by file name; unreadable images have none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {Path(r["file"]).name: r for r in content if "error" not in r}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no records of tools/infer.py ({error})") from error
    if len(found) < sum("error" not in record for record in content):
        raise ValueError(f"{path}: two images have the same file name")
    return found


def _fused(
    records: list[dict[str, dict[str, Any]]], options: argparse.Namespace
) -> tuple[dict[str, ImageBoxes], dict[str, tuple[int, int]]]:
    names = set(records[0])
    for path, own in zip(options.records, records, strict=True):
        if own.keys() != names:
            odd = sorted(own.keys() ^ names)
            raise ValueError(f"{path}: has other images than {options.records[0]}: {odd[:3]}")
    images, sizes = {}, {}
    for name in sorted(names):
        found = [boxes_of_record(own[name], COCO_CATEGORIES) for own in records]
        fused = fuse(found, options.iou, options.threshold)
        width, height = records[0][name]["width"], records[0][name]["height"]
        sides = torch.tensor([width, height, width, height])
        images[name] = ImageBoxes(fused.boxes / sides, fused.labels, fused.scores)
        sizes[name] = width, height
    return images, sizes
