"""The options of commands that read a data set, of any format or as a COCO file and its images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.progress import counting_up
from igcv3det.datasets.formats import FORMATS

if TYPE_CHECKING:
    from igcv3det.datasets.issues import DatasetIssue
    from igcv3det.datasets.subsets import SplitRecord

_SHOWN = 20  # issues
SPLIT_HELP = "train, val, test or all"


def add_data_options(parser: argparse.ArgumentParser, split: str) -> None:
    """Adds ``--data``, ``--split``, ``--format``, ``--annotations`` and ``--images``.

    Args:
        parser: of the command.
        split: of ``--data`` that is read unless another one is named.
    """
    add = parser.add_argument
    add("--data", type=Path, metavar="PATH", help="data set: its folder or file, in any format")
    add("--split", metavar="NAME", help=f"{SPLIT_HELP}, of --data (default: {split})")
    add_format(parser)
    add("--annotations", type=Path, metavar="JSON", help="COCO annotation file, without --data")
    add("--images", type=Path, metavar="DIR", help="folder of its images")
    parser.set_defaults(default_split=split)


def add_format(parser: argparse.ArgumentParser) -> None:
    """Adds ``--format``."""
    parser.add_argument(
        "--format", choices=FORMATS, help="format of the data set (default: recognised)"
    )


def require_data(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    *,
    need_images: bool = True,
    need_data: bool = True,
) -> None:
    """Ends a call that names no data set, or two.

    Args:
        parser: of the command; its ``error`` ends the call.
        options: as parsed.
        need_images: the command opens images.
        need_data: the command does nothing without a data set.
    """
    if options.data and (options.annotations or options.images):
        parser.error("--data goes without --annotations and --images")
    if not options.data and (options.split or options.format):
        parser.error("--split and --format go with --data")
    if need_data and not options.data and not options.annotations:
        parser.error("the following arguments are required: --data, or --annotations and --images")
    if options.annotations and need_images and not options.images:
        parser.error("the following arguments are required: --images")
    if options.images and not options.annotations:
        parser.error("the following arguments are required: --annotations")


def read_data(options: argparse.Namespace) -> SplitRecord:
    """The record that the options name, and the folder of its images.

    Raises:
        FileNotFoundError: there is no such file or folder.
        AnnotationError: it cannot be understood, or has no such split.
    """
    return read_splits(options)[0]


def read_splits(options: argparse.Namespace) -> tuple[SplitRecord, list[str]]:
    """As `read_data`, and the split of each image; empty where all are of one."""
    from igcv3det.datasets.coco import read_coco
    from igcv3det.datasets.dataset import Dataset
    from igcv3det.datasets.subsets import SplitRecord

    if options.data:
        with counting_up("images read") as progress:
            dataset = Dataset(options.data, options.format, progress)
            split = options.split or options.default_split
            if (notice := dataset.notice(split)) is not None:
                print(notice, file=sys.stderr)
            return dataset.read(split), dataset.split_names(split)
    return SplitRecord(read_coco(options.annotations), options.images), []


def print_issues(issues: Sequence[DatasetIssue], hint: str = "") -> None:
    """Lists issues on standard error, of many the first; the hint says where all are."""
    for issue in issues[:_SHOWN]:
        print(issue, file=sys.stderr)
    if len(issues) > _SHOWN:
        print(f"... and {len(issues) - _SHOWN} more{hint}", file=sys.stderr)
