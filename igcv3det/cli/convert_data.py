"""Converts a data set of any format to a COCO JSON file.

Examples:
    igcv3det convert-data data/mine annotations.json
    igcv3det convert-data data/mine train.json --split train

SOURCE is a folder or a file of COCO JSON, YOLO, Pascal VOC, LabelMe, CVAT XML or CSV. Boxes and
class names are kept as they are; the file names start from the folder that is printed. What cannot
be used is named on standard error and counted. A file of other content is not overwritten.

Exit status: 0 written, 1 could not be done, or (with --strict) there are issues, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.data_options import SPLIT_HELP, add_format, print_issues
from igcv3det.cli.progress import counting_up
from igcv3det.cli.results import holds_other, is_standard_output, write_text


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("convert-data", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("convert-data", __doc__)
    add = parser.add_argument
    add("source", type=Path, metavar="SOURCE", help="data set: its folder or file, in any format")
    add("output", type=Path, metavar="OUT.json", help="file to write")
    add("--split", default="all", metavar="NAME", help=f"{SPLIT_HELP} (default: all)")
    add_format(parser)
    add("--drop-empty-classes", action="store_true", help="leave out classes without a box")
    add("--strict", action="store_true", help="write nothing if something is wrong")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    from igcv3det.datasets.coco_writer import coco_content
    from igcv3det.datasets.dataset import Dataset
    from igcv3det.datasets.issues import summarize
    from igcv3det.datasets.subsets import empty_classes, used_categories, with_categories

    with counting_up("images read") as progress:
        dataset = Dataset(options.source, options.format, progress)
        if (notice := dataset.notice(options.split)) is not None:
            print(notice, file=sys.stderr)
        record, images = dataset.read(options.split)
    used = used_categories([record])
    empty = empty_classes(record, used)
    if empty and options.drop_empty_classes:
        record = with_categories(record, used)
    print_issues(record.issues)
    if options.strict and record.issues:
        raise ValueError(f"{summarize(record.issues, options.source)}; nothing was written")
    output, text = options.output, json.dumps(coco_content(record))
    if holds_other(output, text):
        raise FileExistsError(f"{output}: holds something else; remove it first")
    write_text(output, text, durable=True)
    to = sys.stdout if output.is_file() and not is_standard_output(output) else sys.stderr
    print(f"{options.source}: {dataset.description}", file=to)
    if empty:
        done = "left out" if options.drop_empty_classes else "kept"
        print(f"classes without a box, {done}: {', '.join(empty)}", file=to)
    print(
        f"{options.output}: {len(record.images)} images, {len(record)} boxes, "
        f"{len(record.categories)} classes, {len(record.issues)} issues; images are in {images}",
        file=to,
    )
    if options.source.is_dir() and options.source.resolve() in output.resolve().parents:
        print(
            f"{output} is in the data set's folder: --format is needed to read that from now on",
            file=sys.stderr,
        )
    return 0
