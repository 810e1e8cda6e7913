"""The main job on what the repository makes itself: draw a data set, train, evaluate, infer.

Usage:
    python tools/demo.py [--output DIR] [--data DIR] [--config FILE] [--seed S] [--max_steps N]

Synthetic shapes go to --data (default data/shapes; made once), the run to --output (default
runs/shapes, numbered if taken). The detector of --config (default configs/igcv3_shapes.yaml) is
trained on it and evaluated; drawn validation images are left in the run's folder ``drawn``.

Exit status: 0 all done, 1 a step could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

# Before torch: threads that wait spin for a moment, not so long that loaders lack the cores
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from igcv3det.cli import evaluate, predict
from igcv3det.engine.malloc import tune_malloc
from igcv3det.shapes.dataset import write_shapes
from igcv3det.tasks.detect.train import DetectionCLI

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGES = 6


def main(args: list[str] | None = None) -> int:
    """Runs the demonstration; None takes the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/shapes"))
    parser.add_argument("--data", type=Path, default=Path("data/shapes"))
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "igcv3_shapes.yaml")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max_steps", type=int, help="stop early (the result is then poor)")
    parser.add_argument("--train", type=int, help="images drawn to train on")
    parser.add_argument("--val", type=int, help="images drawn to evaluate on")
    given = parser.parse_args(args)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tune_malloc()
    try:
        counts = {"train": given.train, "val": given.val}
        drawn = {split: count for split, count in counts.items() if count is not None}
        root = write_shapes(given.data, **drawn)
        training = ["--config", str(given.config), "--data.root", str(root)]
        training += ["--trainer.default_root_dir", str(given.output)]
        training += ["--seed_everything", str(given.seed)]
        if given.max_steps is not None:
            training += ["--trainer.max_steps", str(given.max_steps)]
        checkpoint = DetectionCLI(training).fit()
    except (OSError, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    assert checkpoint is not None  # a single process
    run = checkpoint.parent.parent
    annotations = root / "annotations" / "instances_val2017.json"
    model = ["--checkpoint", str(checkpoint)]
    files = ["--annotations", str(annotations), "--images", str(root / "val2017")]
    status = evaluate.main([*model, *files, "--output", str(run / "metrics.json")])
    images = [str(path) for path in sorted((root / "val2017").glob("*.jpg"))[:IMAGES]]
    return max(status, predict.main([*images, *model, "--output", str(run / "drawn")]))
