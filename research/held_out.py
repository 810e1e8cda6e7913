r"""The annotations of the images that a detector was not trained on.

Usage:
    python -m research.held_out mscoco_minival_ids.txt instances_val2017.json \
        instances_train2017.json --output held_out.json [--seen]

A file of image ids and COCO annotation files become one annotation file of the images with these
ids; --seen takes all other images. TensorFlow's models were trained on COCO 2014 without the images
of its ``object_detection/data/mscoco_minival_ids.txt`` (tensorflow/models, research). Exit status:
0 written, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from igcv3det.atomic_files import atomic_write
from igcv3det.cli.command import command_parser, run_command
from igcv3det.datasets.coco import read_sections
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.splitting import images_of, part_of
from igcv3det.datasets.text_files import read_text


def read_ids(path: Path) -> set[int]:
    """Ids of a text file, with blanks or line breaks between them.

    Raises:
        FileNotFoundError, ValueError: the file cannot be read or has other words.
    """
    ids = set()
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        for word in line.split():
            if not word.isdecimal():
                raise ValueError(f"{path}, line {number}: {word!r} is no image id")
            ids.add(int(word))
    return ids


def selected(path: Path, ids: set[int], *, seen: bool) -> dict[str, Any]:
    """The content of a COCO annotation file with only the images of these ids.

    Args:
        path: of the file.
        ids: of images.
        seen: takes the other images instead.

    Raises:
        FileNotFoundError, AnnotationError: the file cannot be read; the message names it.
    """
    content = read_sections(path)
    try:
        own = {number for number, _ in images_of(content)}
    except AnnotationError as error:
        raise AnnotationError(f"{path}: {error}") from error
    return part_of(content, own - ids if seen else own & ids)


def merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One annotation file of several.

    Raises:
        ValueError: files with other categories, or an image in two of them.
    """
    images = [image for part in parts for image in part["images"]]
    if len({image["id"] for image in images}) < len(images):
        raise ValueError("an image id occurs twice")
    if any(part["categories"] != parts[0]["categories"] for part in parts):
        raise ValueError("the files have other categories")
    found = [one for part in parts for one in part["annotations"]]
    # ids of annotations are those of a file
    annotations = [{**one, "id": number} for number, one in enumerate(found, start=1)]
    return {"images": images, "annotations": annotations, "categories": parts[0]["categories"]}


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("held_out", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.held_out", __doc__, program="python -m")
    parser.add_argument("ids", type=Path, help="text file of image ids")
    parser.add_argument("annotations", type=Path, nargs="+", metavar="JSON")
    parser.add_argument("--output", type=Path, required=True, metavar="JSON")
    parser.add_argument("--seen", action="store_true", help="take all other images")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    ids = read_ids(options.ids)
    result = merged([selected(path, ids, seen=options.seen) for path in options.annotations])
    atomic_write(options.output, json.dumps(result))
    print(f"{options.output}: {len(result['images'])} images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
