r"""Shows training images as the network gets them, with their boxes, in one image file.

Examples:
    igcv3det show-data data/mine --output augmented.png
    igcv3det show-data data/mine --output augmented.png --data.augmentation augmentation.yaml
    igcv3det show-data data/mine --output mosaics.png --data.mosaic 1 --data.augment.preset flip
    igcv3det show-data data/mine --output augmented.png --config runs/mine/config.yaml

The options of ``igcv3det train`` that change training images have the same names and defaults here:
those of the data, of ``finetune`` or of --config. Images and random changes are those of the first
samples of a training with the same seed. Exit status: 0 written, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from pathlib import Path

from igcv3det.cli.arguments import positive_int, whole_number_from
from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.data_options import add_format
from igcv3det.cli.results import refuse_overwriting

CONFIG = "finetune"
PREFIX = "data.augment."
SUFFIXES = (".png", ".jpg", ".jpeg")


def main(args: list[str] | None = None) -> int:
    """Writes the image; returns the exit status."""
    return run_command("show-data", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    from igcv3det.config import AugmentConfig

    parser = command_parser("show-data", __doc__)
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="data set: its folder or file, in any format")
    add("--output", type=Path, required=True, metavar="FILE", help="image file to write")
    add("--count", type=positive_int, default=16, metavar="N", help="images (default: 16)")
    add("--config", default=CONFIG, metavar="FILE", help=f"of a training (default: {CONFIG})")
    add(
        "--seed_everything", type=whole_number_from(0), metavar="SEED", help="of the random changes"
    )
    add("--model.detector.image_size", type=positive_int, metavar="S", help="pixels")
    add("--data.augmentation", metavar="FILE", help="albumentations pipeline, as JSON or YAML")
    add("--data.mosaic", type=float, metavar="P", help="share of mosaics")
    hints = typing.get_type_hints(AugmentConfig)
    for field in dataclasses.fields(AugmentConfig):
        choices = typing.get_args(hints[field.name]) or None
        kind = str if choices else float
        add(f"--{PREFIX}{field.name}", type=kind, choices=choices, help="as of train")
    add_format(parser)
    options = parser.parse_args(args)
    if options.output.suffix.lower() not in SUFFIXES:
        parser.error(f"argument --output: must end in {' or '.join(SUFFIXES)}")
    inputs = [getattr(options, "data.augmentation"), options.data]
    refuse_overwriting(parser, options, inputs, ["output"])
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import read_config
    from igcv3det.config_files import find_config
    from igcv3det.engine.arguments import given_values
    from igcv3det.io.images import write_image
    from igcv3det.tasks.detect.shown_samples import draw_samples

    file = find_config(options.config)
    values = given_values(["--config", str(file)], {})
    values |= {key: value for key, value in vars(options).items() if value is not None}
    values.setdefault("model.detector.image_size", read_config(file).image_size)
    sheet, lines = draw_samples(options.data, values, options.count, protect=options.output)
    write_image(options.output, sheet)
    print("\n".join(lines))
    print(options.output)
    return 0
