r"""Fine-tuning on a small data set: pretrained weights against training from scratch.

Usage:
    python -m research.fine_tuning bccd --data data/bccd --teacher teacher.safetensors \
        --output docs/research/fine_tuning/bccd [--seeds 0 1] [--epochs N] [--runs DIR]

Trains IGCV3 from the released weights and from scratch, and MobileNetV2 from TensorFlow's weights
(``tools/convert_tf.py``) and from scratch, with ``configs/finetune_*.yaml``, each with every seed
and for the same number of epochs; the learning rate from scratch is 0.0005. A finished run is not
repeated; an interrupted one resumes from its last checkpoint. Writes OUTPUT/table.md and
OUTPUT/curves.png after each run. Exit status: 0 done, 1 could not be done.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch, as tools/train_det.py does

from igcv3det.atomic_files import atomic_write
from igcv3det.cli.command import command_parser, run_command
from igcv3det.engine.malloc import tune_malloc
from igcv3det.tasks.detect.train import DetectionCLI
from research.ablation.curves import draw_means
from research.seeded_runs import logged, train_once

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
_LR_FROM_SCRATCH = "0.0005"  # too high for pretrained weights


class Start(NamedTuple):
    """A network and its initial weights.

    Attributes:
        name: name of the row.
        slug: name of its runs' folders.
        config: end of the configuration's name.
        weights: file of weights; None trains from scratch.
    """

    name: str
    slug: str
    config: str
    weights: Path | None


def starts(teacher: Path) -> list[Start]:
    """The four rows.

    Args:
        teacher: converted weights of TensorFlow.
    """
    released = CONFIGS.parent / "igcv3det" / "weights" / "igcv3_d_ssdlite.safetensors"
    return [
        Start("IGCV3-D, released weights", "igcv3-released", "", released),
        Start("IGCV3-D, from scratch", "igcv3-nothing", "", None),
        Start("MobileNetV2, TensorFlow's weights", "mobilenetv2-tf", "_mobilenetv2", teacher),
        Start("MobileNetV2, from scratch", "mobilenetv2-nothing", "_mobilenetv2", None),
    ]


def train(start: Start, seed: int, options: argparse.Namespace) -> list[float]:
    """AP after each epoch of a run, which is trained or resumed if it is not finished.

    Raises:
        OSError: a file cannot be read.
        ValueError: data or weights do not match the configuration.
    """
    config = CONFIGS / f"finetune_{options.dataset}{start.config}.yaml"
    arguments = ["--config", str(config), "--logged_images", "0", "--data.root", str(options.data)]
    if start.weights is not None:
        arguments += ["--model.weights", str(start.weights)]
    else:
        arguments += ["--model.random_init", "true"]
        arguments += ["--model.optim.lr", _LR_FROM_SCRATCH]
    if options.epochs is not None:
        arguments += ["--trainer.max_epochs", str(options.epochs)]
    folder = options.runs / options.dataset / f"{start.slug}-seed{seed}"
    curve: list[float] = train_once(
        DetectionCLI, arguments, seed, folder, lambda folder, _: logged(folder, "val/AP")
    )
    return curve


def markdown(curves: dict[str, list[list[float]]]) -> str:
    """The table: AP after the first, the middle and the last validation, mean and range of seeds.

    Args:
        curves: by name of the row, a curve for each seed; a row without curves is "not run".
    """
    lines = [
        "| network and start | n | first AP | AP half-way | last AP | range |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, runs in curves.items():
        if not runs:
            lines.append(f"| {name} | 0 | not run | | | |")
            continue
        middle = (len(runs[0]) - 1) // 2
        means = [statistics.mean(run[at] for run in runs) for at in (0, middle, -1)]
        last = [run[-1] for run in runs]
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        lines.append(f"| {name} | {len(runs)} | {cells} | {min(last):.3f} to {max(last):.3f} |")
    return "\n".join(lines) + "\n"


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("fine_tuning", _parse, _run, args)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tune_malloc()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = starts(options.teacher)
    curves: dict[str, list[list[float]]] = {start.name: [] for start in rows}
    for seed in options.seeds:
        for start in rows:
            curves[start.name].append(train(start, seed, options))
            atomic_write(options.output / "table.md", markdown(curves))
            image = options.output / "curves.png"
            draw_means(curves, image, ("validation", "AP"), low=0)
    print(options.output / "table.md")
    return 0


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.fine_tuning", __doc__, program="python -m")
    parser.add_argument("dataset", choices=["bccd", "voc"])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--teacher", type=Path, required=True, metavar="FILE")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--epochs", type=int, help="default: the configuration's")
    parser.add_argument("--runs", type=Path, default=Path("runs/fine_tuning"), metavar="DIR")
    return parser.parse_args(args)


if __name__ == "__main__":
    sys.exit(main())
