"""Fuses the detections of several detectors into one set of boxes to train on.

Examples:
    igcv3det predict IMAGES --checkpoint A.safetensors --threshold 0.05 --json a.json
    igcv3det predict IMAGES --checkpoint B.onnx --threshold 0.05 --json b.json
    igcv3det fuse-boxes a.json b.json --output boxes.json
    igcv3det fuse-boxes a.json b.json --true voc.json --classes person,dog --output c.json

RECORDS are files of ``igcv3det predict --json`` with COCO's 80 classes. ``--true`` names
annotations of some of the images: their boxes replace the detectors' for the classes of
``--classes``, which must be annotated completely. The output is a COCO annotation file with scores.
Exit status: 0 written, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igcv3det.cli.arguments import confidence, words
from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.results import refuse_overwriting
from igcv3det.datasets.coco_names import COCO_NAMES

if TYPE_CHECKING:
    from igcv3det.datasets.box_labels import ImageBoxes


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("fuse-boxes", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("fuse-boxes", __doc__)
    add = parser.add_argument
    add(
        "records",
        nargs="+",
        type=Path,
        metavar="RECORDS",
        help="JSON files of igcv3det predict, one a detector",
    )
    add("--output", type=Path, required=True, metavar="JSON", help="COCO annotation file to write")
    add("--iou", type=float, default=0.6, help="IoU above which boxes are fused (default: 0.6)")
    add(
        "--threshold",
        type=confidence,
        default=0.05,
        metavar="SCORE",
        help="confidence threshold (default: 0.05)",
    )
    add("--true", type=Path, metavar="JSON", help="COCO annotations of some of the images")
    add(
        "--classes",
        type=words,
        default=[],
        metavar="NAMES",
        help="classes that --true annotates completely, by name, with commas between",
    )
    options = parser.parse_args(args)
    refuse_overwriting(parser, options, [*options.records, options.true], ["output"])
    if bool(options.true) != bool(options.classes):
        parser.error("--true and --classes go together")
    if not 0 < options.iou <= 1:
        parser.error(f"--iou must be in (0, 1], got {options.iou}")
    if unknown := set(options.classes) - set(COCO_NAMES):
        parser.error(f"--classes: COCO has no {', '.join(sorted(unknown))}")
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.datasets.box_labels import read_labels, with_annotated_boxes, write_labels
    from igcv3det.datasets.coco_categories import COCO_CATEGORIES

    labels = [COCO_CATEGORIES.names.index(name) + 1 for name in options.classes]
    records = [_records(path) for path in options.records]
    images, sizes = _fused(records, options)
    if options.true:
        true = read_labels(options.true, COCO_CATEGORIES)
        missing = sorted(set(true) - set(images))
        if missing:
            raise ValueError(f"{options.true}: images without detections: {missing[:3]}")
        images = with_annotated_boxes(images, true, labels)
    write_labels(options.output, images, sizes, COCO_CATEGORIES)
    boxes = sum(len(own.boxes) for own in images.values())
    print(f"{options.output}: {len(images)} images, {boxes} boxes")
    return 0


def _records(path: Path) -> dict[str, dict[str, Any]]:
    """Records by file name; unreadable images have none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, list):
            raise TypeError("no list of records")
        found = {Path(r["file"]).name: r for r in content if "error" not in r}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: not a file of igcv3det predict --json ({error})") from error
    if len(found) < sum("error" not in record for record in content):
        raise ValueError(f"{path}: two images have the same file name")
    return found


def _fused(
    records: list[dict[str, dict[str, Any]]], options: argparse.Namespace
) -> tuple[dict[str, ImageBoxes], dict[str, tuple[int, int]]]:
    import torch

    from igcv3det.datasets.box_labels import ImageBoxes, boxes_of_record
    from igcv3det.datasets.coco_categories import COCO_CATEGORIES
    from igcv3det.tasks.distill.fusion import fuse

    names = set(records[0])
    for path, own in zip(options.records, records, strict=True):
        if own.keys() != names:
            other = sorted(own.keys() ^ names)
            raise ValueError(f"{path}: has other images than {options.records[0]}: {other[:3]}")
    images, sizes = {}, {}
    for name in sorted(names):
        found = []
        for path, own in zip(options.records, records, strict=True):
            try:
                found.append(boxes_of_record(own[name], COCO_CATEGORIES))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        fused = fuse(found, options.iou, options.threshold)
        width, height = records[0][name]["width"], records[0][name]["height"]
        sides = torch.tensor([width, height, width, height])
        images[name] = ImageBoxes(fused.boxes / sides, fused.labels, fused.scores)
        sizes[name] = width, height
    return images, sizes
