"""Demonstration on synthetic images: generates a data set, trains, evaluates and predicts.

Synthetic shapes go to --data (generated once), the run to --output (numbered if it exists). The
detector of --config is trained on the shapes and evaluated. Validation images with detections go
to the folder ``drawn`` of the run, and all of them in one image to ``detections.png``.

Exit status: 0 all done, 1 a step could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from igcv3det.cli import eval as evaluate
from igcv3det.cli import predict
from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import DEBUG, command_parser, run_command
from igcv3det.cli.training import prepare_process
from igcv3det.config_files import find_config

CONFIG = "igcv3_shapes"
DATA, OUTPUT = Path("data/shapes"), Path("runs/shapes")
IMAGES, COLUMNS = 6, 3


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("demo", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("demo", __doc__)
    add = parser.add_argument
    add("--output", type=Path, default=OUTPUT, help=f"run folder (default: {OUTPUT})")
    add("--data", type=Path, default=DATA, help=f"data set folder (default: {DATA})")
    add("--config", default=CONFIG, help=f"training configuration (default: {CONFIG})")
    add("--seed", type=int, default=0, help="seed of the run (default: 0)")
    add("--max_steps", type=positive_int, metavar="N", help="stop after N steps, at a lower AP")
    add("--train", type=positive_int, metavar="N", help="number of training images (default: 4000)")
    add("--val", type=positive_int, metavar="N", help="number of validation images (default: 200)")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    prepare_process()
    from igcv3det.shapes.dataset import write_shapes
    from igcv3det.tasks.detect.train import DetectionCLI

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    counts = {"train": options.train, "val": options.val}
    given = {split: count for split, count in counts.items() if count is not None}
    root = write_shapes(options.data, **given)
    checkpoint = DetectionCLI(_training_arguments(root, options)).fit()
    assert checkpoint is not None  # a single process
    run = checkpoint.parent.parent
    annotations = root / "annotations" / "instances_val2017.json"
    model = ["--checkpoint", str(checkpoint), *([DEBUG] if options.debug else [])]
    files = ["--annotations", str(annotations), "--images", str(root / "val2017")]
    status = evaluate.main([*model, *files, "--output", str(run / "metrics.json")])
    images = [str(path) for path in sorted((root / "val2017").glob("*.jpg"))[:IMAGES]]
    status = max(status, predict.main([*images, *model, "--output", str(run / "drawn")]))
    if status == 0:
        print(f"Detections on {len(images)} validation images: {_overview(run)}")
    return status


def _overview(run: Path) -> Path:
    """Writes the images of ``drawn`` as one image."""
    from igcv3det.io.drawing import tile_images
    from igcv3det.io.images import read_image, write_image

    path = run / "detections.png"
    drawn = sorted((run / "drawn").glob("*.jpg"))
    write_image(path, tile_images([read_image(image) for image in drawn], COLUMNS))
    return path


def _training_arguments(root: Path, options: argparse.Namespace) -> list[str]:
    training = ["--config", str(find_config(options.config)), "--data.root", str(root)]
    training += ["--trainer.default_root_dir", str(options.output)]
    training += ["--seed_everything", str(options.seed)]
    if options.max_steps is not None:
        training += ["--trainer.max_steps", str(options.max_steps)]
    return training
