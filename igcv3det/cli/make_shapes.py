"""Generates the synthetic shapes data set of the shapes configurations, in COCO's layout.

Example:
    igcv3det make-shapes data/shapes

OUT receives train2017/, val2017/ and annotations/. A complete data set is kept; one of other
parameters is not overwritten. Exit status: 0 complete, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from igcv3det.cli.arguments import positive_int, whole_number_from
from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.progress import counting_up

DEFAULT_FOLDER = Path("data/shapes")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("make-shapes", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    # The defaults are those of `write_shapes`: an option that is not given is not passed on.
    parser = command_parser("make-shapes", __doc__)
    parser.argument_default = argparse.SUPPRESS
    add = parser.add_argument
    add(
        "root",
        metavar="OUT",
        nargs="?",
        type=Path,
        default=DEFAULT_FOLDER,
        help=f"folder of the data set (default: {DEFAULT_FOLDER})",
    )
    add("--train", type=positive_int, metavar="N", help="number of training images (default: 4000)")
    add("--val", type=positive_int, metavar="N", help="number of validation images (default: 200)")
    add(
        "--image-size",
        type=positive_int,
        metavar="PX",
        help="longer side of the images, pixels (default: 224)",
    )
    add("--seed", type=whole_number_from(0), metavar="S", help="random seed (default: 0)")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    from igcv3det.shapes.dataset import write_shapes

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    given = {key: value for key, value in vars(options).items() if key != "debug"}
    with counting_up("images") as progress:
        folder = write_shapes(**given, progress=progress)
    print(f"The data set is in {folder}")
    return 0
