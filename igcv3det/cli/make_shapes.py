"""Draws the made-up detection set (COCO's layout) that the shapes configurations train on.

Usage:
    python tools/make_shapes.py [OUT] [--train N] [--val N] [--image-size PX] [--seed S]

Example:
    python tools/make_shapes.py data/shapes

OUT (default data/shapes) gets train2017/, val2017/ and annotations/. A set that is already there is
left alone; one made from other parameters is not overwritten (exit status 1). What is not given is
as `tools/demo.py` has it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from igcv3det.shapes.dataset import write_shapes


def main(args: list[str] | None = None) -> int:
    """Draws as the arguments say; None takes the command line's."""
    # The defaults stand in `write_shapes` alone: what is not given is not passed on.
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], argument_default=argparse.SUPPRESS
    )
    parser.add_argument("root", metavar="OUT", nargs="?", type=Path, default=Path("data/shapes"))
    parser.add_argument("--train", type=int, help="training images")
    parser.add_argument("--val", type=int, help="validation images")
    parser.add_argument("--image-size", type=int, help="longer side, pixels")
    parser.add_argument("--seed", type=int, help="of everything random")
    given = parser.parse_args(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        root = write_shapes(**vars(given))
    except (OSError, ValueError) as error:
        print(f"make_shapes: {error}", file=sys.stderr)
        return 1
    print(f"The set is in {root}")
    return 0
