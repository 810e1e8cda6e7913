"""Draws the instances or segments of a COCO file as PNG masks, to train a segmenter on.

Examples:
    igcv3det make-masks --annotations coco/instances_train2017.json --images coco/train2017
    igcv3det make-masks --annotations coco/panoptic_train2017.json --images coco/train2017

A mask has the size of its image. Its labels are 0 for the background and 1, 2, ... for the
categories in the order of their ids; smaller instances are drawn over larger ones. Of panoptic
annotations, whose PNG files are in --panoptic (default: the folder beside the JSON with its name),
the categories are labels 0, 1, ... in the order of their ids and pixels of none 255. Masks go to
--output, by default the folder of the images with ``_labels`` behind its name, and the names of the
labels to ``classes.txt`` beside it: then ``igcv3det train coco --task segment`` reads both. Nothing
is overwritten.

Exit status: 0 written, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.progress import counting


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("make-masks", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("make-masks", __doc__)
    add = parser.add_argument
    add(
        "--annotations",
        type=Path,
        required=True,
        metavar="JSON",
        help="COCO instances, or panoptic",
    )
    add("--images", type=Path, required=True, metavar="DIR", help="folder of its images")
    add("--panoptic", type=Path, metavar="DIR", help="folder of the PNG files of panoptic JSON")
    add("--output", type=Path, metavar="DIR", help="folder for the masks (default: DIR_labels)")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    from igcv3det.tasks.segment.coco_masks import DrawnMasks, instances_of, read_lists, write_masks
    from igcv3det.tasks.segment.panoptic_masks import is_panoptic, panoptic_of
    from igcv3det.tasks.segment.sources import LABELS_SUFFIX

    images = Path(options.images)
    beside = images.absolute()  # a link keeps its name: masks are found beside it
    output = options.output or beside.with_name(f"{beside.name}{LABELS_SUFFIX}")
    annotations = Path(options.annotations)
    content = read_lists(annotations)
    masks: DrawnMasks
    if options.panoptic or is_panoptic(content):
        masks = panoptic_of(content, annotations, options.panoptic or annotations.with_suffix(""))
    else:
        masks = instances_of(content, annotations)
    with counting("masks", len(masks.images)) as progress:
        written = write_masks(masks, images, output, progress)
    print(
        f"{output}: {written} masks, {len(masks.names)} labels ({', '.join(masks.names[:3])}, ...)"
    )
    return 0
