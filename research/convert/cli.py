r"""Converts TensorFlow's ssdlite_mobilenet_v2_coco, in TensorFlow.js form, to a checkpoint.

Usage:
    python tools/convert_tf.py FOLDER OUT.safetensors [--statistics IMAGES]

FOLDER holds model.json and its weight shards; TensorFlow is not needed. Every tensor of the model
is accounted for: one that is unknown, missing or of another shape or value stops the conversion by
name.

The exporter has folded most batch normalisation away. For detection that is all the same; to train
on from the checkpoint, give --statistics a folder of ordinary photographs (some hundred are
enough): what the layers see on them becomes their running mean and variance, and the answers stay
the same.

Example:
    python tools/convert_tf.py downloads/ssdlite_mobilenet_v2_coco teacher.safetensors
    python tools/eval_det.py --checkpoint teacher.safetensors \
        --annotations data/coco/annotations/instances_val2017.json --images data/coco/val2017
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from igcv3det.checkpoint import save_detector
from igcv3det.detector import SSDLite
from igcv3det.io.images import EXTENSIONS, read_image
from igcv3det.preprocess import Preprocess
from research.convert.ssdlite import METADATA, convert_ssdlite, folded_norms
from research.convert.statistics import restore_statistics

STATISTICS_IMAGES = 300


def main(args: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="with model.json and its shards"
    )
    parser.add_argument("output", type=Path, metavar="OUT.safetensors", help="file to write")
    parser.add_argument(
        "--statistics", type=Path, metavar="IMAGES", help="photographs that make it trainable"
    )
    options = parser.parse_args(args)
    if options.output.suffix != ".safetensors":
        parser.error(f"OUT must end in .safetensors, got {options.output}")
    try:
        detector = convert_ssdlite(options.folder)
        statistics = "folded: mean 0, variance 1 - eps"
        if options.statistics is not None:
            images = _photographs(options.statistics, detector)
            count = restore_statistics(detector, folded_norms(detector), images)
            statistics = f"measured on {count} images"
        save_detector(detector, options.output, {**METADATA, "batch_norm_statistics": statistics})
    except (OSError, ValueError) as error:
        print(f"convert_tf: {error}", file=sys.stderr)
        return 1
    print(f"{options.output}: {detector.config.num_classes} classes, batch norm {statistics}")
    return 0


def _photographs(folder: Path, detector: SSDLite) -> Iterator[Tensor]:
    """Single images [1, 3, S, S], spread evenly over the folder's names."""
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in EXTENSIONS)
    if not paths:
        raise ValueError(
            f"--statistics {folder}: no images there ({', '.join(sorted(EXTENSIONS))})"
        )
    preprocess = Preprocess(detector.config.preprocess, detector.config.image_size)
    step = max(1, len(paths) // STATISTICS_IMAGES)
    for path in paths[::step][:STATISTICS_IMAGES]:
        yield preprocess(read_image(path))[None]
