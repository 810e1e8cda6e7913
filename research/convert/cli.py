r"""Converts TensorFlow's ssdlite_mobilenet_v2_coco, in TensorFlow.js form, to a checkpoint.

Example:
    python tools/convert_tf.py downloads/ssdlite_mobilenet_v2_coco teacher.safetensors
    python tools/eval_det.py --checkpoint teacher.safetensors \
        --annotations data/coco/annotations/instances_val2017.json --images data/coco/val2017

FOLDER holds model.json and its weight shards; TensorFlow is not needed. Every tensor of the model
is checked; an unknown or missing tensor, or one of another shape or value, is an error that names
it.

The exporter has folded most batch normalisations, which does not change detections. To fine-tune
from the checkpoint, pass a folder of some hundred photographs as --statistics: running means and
variances are measured on them, and the outputs do not change.

Exit status: 0 written, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.command import command_parser, run_command

if TYPE_CHECKING:
    from torch import Tensor

    from igcv3det.detector import SSDLite

STATISTICS_IMAGES = 300


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("convert-tf", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("convert-tf", __doc__)
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="folder of model.json and its shards")
    add("output", type=Path, metavar="OUT.safetensors", help="checkpoint to write")
    add(
        "--statistics",
        type=Path,
        metavar="IMAGES",
        help="photographs, for the running statistics",
    )
    options = parser.parse_args(args)
    if options.output.suffix != ".safetensors":
        parser.error(f"OUT must end in .safetensors, got {options.output}")
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import save_detector
    from igcv3det.engine.norm_statistics import restore_statistics
    from research.convert.ssdlite import METADATA, convert_ssdlite, folded_norms

    detector = convert_ssdlite(options.folder)
    statistics = "folded: mean 0, variance 1 - eps"
    if options.statistics is not None:
        images = _photographs(options.statistics, detector)
        count = restore_statistics(detector, folded_norms(detector), images)
        statistics = f"measured on {count} images"
    save_detector(detector, options.output, {**METADATA, "batch_norm_statistics": statistics})
    print(f"{options.output}: {detector.config.num_classes} classes, batch norm {statistics}")
    return 0


def _photographs(folder: Path, detector: SSDLite) -> Iterator[Tensor]:
    """Network inputs [1, 3, S, S] of up to 300 images, at equal intervals of their names."""
    from igcv3det.io.folders import images_in
    from igcv3det.io.images import EXTENSIONS, read_image
    from igcv3det.preprocess import Preprocess

    paths = images_in(folder)
    if not paths:
        raise ValueError(
            f"--statistics {folder}: no images there ({', '.join(sorted(EXTENSIONS))})"
        )
    preprocess = Preprocess(detector.config.preprocess, detector.config.image_size)
    step = max(1, len(paths) // STATISTICS_IMAGES)
    for path in paths[::step][:STATISTICS_IMAGES]:
        yield preprocess(read_image(path))[None]


if __name__ == "__main__":
    sys.exit(main())
