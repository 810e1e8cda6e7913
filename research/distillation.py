r"""Ablations of distillation: short runs that differ in one setting, several seeds each.

Usage:
    python -m research.distillation start --images DIR... --teacher teacher.safetensors \
        --output docs/research/distillation/start [--evaluate NAME ANNOTATIONS IMAGES]...
    python -m research.distillation boxes --images DIR... --teacher teacher.safetensors \
        --weights student.safetensors --fused JSON... --single JSON... --unlabelled JSON... \
        --output docs/research/distillation/boxes [--evaluate NAME ANNOTATIONS IMAGES]...
    python -m research.distillation points --images DIR... --teacher mobilenetv2 \
        --points runs/compress/rules/*.safetensors \
        --output docs/research/distillation/points [--evaluate NAME ANNOTATIONS IMAGES]...

``start`` compares initial weights, positions of ReLU6 and depths of the student, on crops, with all
parts trained and otherwise ``configs/distill/3_whole.yaml``. ``boxes`` compares sources of boxes,
from a student's weights, on whole images, with ``configs/distill/4_boxes.yaml``: --fused are the
boxes of both teachers and annotated ones where there are any, --single the same with one teacher,
--unlabelled those of both teachers only (``tools/fuse_boxes.py`` makes all three).
``points`` trains detectors that ``compress`` or ``research.compression`` made, all parts after the
stem, with ``configs/distill/compressed.yaml``.

A finished run is not repeated; an interrupted one resumes from its last checkpoint. Writes
OUTPUT/table.md and OUTPUT/curves.png after each run. Exit status: 0 done, 1 could not be done,
2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch, as tools/distill.py does

from igcv3det.atomic_files import atomic_write
from igcv3det.cli import eval as eval_command
from igcv3det.cli.arguments import positive_float, positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.engine.malloc import tune_malloc
from igcv3det.tasks.distill.train import DistillationCLI
from research.ablation.curves import draw_means
from research.seeded_runs import logged, mean_and_range, train_once

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "distill"
STEPS = {"start": 200, "boxes": 200, "points": 300}
VALIDATIONS = 4
SCORE = "val/score"
# the lower rates are those of the later phases; a morphed network needs them
HIGH_RATES = ("--model.optim.muon_lr", "0.02", "--model.optim.lr", "0.003")
LOW_RATES = ("--model.optim.muon_lr", "0.006", "--model.optim.lr", "0.0008")


class Variant(NamedTuple):
    """A row of the table, with its own arguments of ``tools/distill.py``.

    Attributes:
        name: name of the row.
        slug: name of its runs' folders.
        arguments: arguments of the command line.
    """

    name: str
    slug: str
    arguments: tuple[str, ...]


class Outcome(NamedTuple):
    """Results of a finished run.

    Attributes:
        score: divergence of the class scores from the teacher's on held-out images, nats per
            image, after each validation.
        ap: AP by name of the data set.
    """

    score: list[float]
    ap: dict[str, float]


def start_variants() -> list[Variant]:
    """The rows of ``start``; the first is the baseline."""
    start, backbone = "--model.distillation.start", "--model.detector.backbone"
    shared = (start, "shared", *HIGH_RATES)
    return [
        Variant("shared parts and statistics", "shared", shared),
        Variant("random start", "random", (start, "random", *HIGH_RATES)),
        Variant("shared, low rates", "shared-gentle", (start, "shared", *LOW_RATES)),
        Variant("morphed, low rates", "morph-gentle", (start, "morph", *LOW_RATES)),
        Variant(
            "ReLU6 after the expansion too", "relu-both", (*shared, f"{backbone}.relu", "both")
        ),
        Variant(
            "half the depth",
            "depth-1x",
            (*shared, f"{backbone}.repeats", "[1,2,3,4,3,3,1]"),
        ),
    ]


def boxes_variants(
    fused: Sequence[Path], single: Sequence[Path], unlabelled: Sequence[Path]
) -> list[Variant]:
    """The rows of ``boxes``; the first is the baseline.

    Args:
        fused: boxes of two teachers and annotated ones.
        single: boxes of one teacher and annotated ones.
        unlabelled: boxes of two teachers.
    """

    def boxes(files: Sequence[Path]) -> tuple[str, ...]:
        return ("--data.boxes", f"[{','.join(str(file) for file in files)}]", *LOW_RATES)

    return [
        Variant("two teachers' and annotated boxes", "fused", boxes(fused)),
        Variant("one teacher's and annotated boxes", "single", boxes(single)),
        Variant("two teachers' boxes", "unlabelled", boxes(unlabelled)),
        Variant(
            "no boxes",
            "none",
            ("--model.distillation.box_weight", "0", "--data.boxes", "[]", *LOW_RATES),
        ),
    ]


def points_variants(files: Sequence[Path], rates: Sequence[float]) -> list[Variant]:
    """The rows of ``points``: each file, named as the file, at each learning rate.

    Args:
        files: detectors as `igcv3det compress` writes them.
        rates: peak learning rates of AdamW.
    """
    frozen = ("--model.distillation.frozen", "[stem]", "--data.batch_size", "16")
    return [
        Variant(
            f"{file.stem}, lr {rate:g}",
            f"{file.stem}-lr{rate:g}",
            ("--model.weights", str(file), *frozen, "--model.optim.lr", str(rate)),
        )
        for file in files
        for rate in rates
    ]


def train(variant: Variant, seed: int, options: argparse.Namespace) -> Outcome:
    """The result of a run, which is trained or resumed if it is not finished.

    Raises:
        OSError: a file cannot be read.
        ValueError: data or weights do not match the configuration.
    """
    # 3_whole.yaml takes the student's description from weights; here 1_early.yaml has it
    stack = {
        "start": ("1_early.yaml", "3_whole.yaml"),
        "boxes": ("4_boxes.yaml",),
        "points": ("compressed.yaml",),
    }
    images = ",".join(str(folder) for folder in options.images)
    arguments = [w for name in stack[options.study] for w in ("--config", str(CONFIGS / name))]
    arguments += ["--data.folders", f"[{images}]"]
    arguments += ["--model.teacher", str(options.teacher)]
    arguments += ["--model.weights", "null" if options.weights is None else str(options.weights)]
    if options.study == "start":
        arguments += ["--model.distillation.frozen", "[]"]
    steps = options.steps or STEPS[options.study]
    arguments += ["--trainer.max_steps", str(steps), "--model.optim.warmup_steps", "20"]
    arguments += ["--trainer.val_check_interval", str(max(1, steps // VALIDATIONS))]
    if options.cache is not None:
        arguments += ["--data.cache", str(options.cache)]

    def summary(folder: Path, best: Path) -> dict[str, object]:
        ap = {name: _ap(best, folder, *files) for name, *files in options.evaluate}
        return Outcome(logged(folder, SCORE), ap)._asdict()

    folder = options.runs / options.study / f"{variant.slug}-seed{seed}"
    arguments += variant.arguments
    return Outcome(**train_once(DistillationCLI, arguments, seed, folder, summary))


def _ap(checkpoint: Path, folder: Path, annotations: str, images: str) -> float:
    metrics = folder / "metrics.json"
    files = ["--annotations", annotations, "--images", images, "--output", str(metrics)]
    if eval_command.main(["--checkpoint", str(checkpoint), *files]):
        raise ValueError(f"{annotations}: {checkpoint} could not be evaluated")
    return float(json.loads(metrics.read_text(encoding="utf-8"))["AP"])


def markdown(outcomes: Mapping[str, Sequence[Outcome]], sets: Sequence[str]) -> str:
    """The table: mean and range over seeds of the last divergence and of AP.

    Args:
        outcomes: runs by name of the row; a row without runs is "not run".
        sets: names of the data sets.
    """
    header = ["", "n", "divergence of scores", *(f"AP, {name}" for name in sets)]
    lines = [f"| {' | '.join(header)} |", f"|---|{'---:|' * (len(header) - 1)}"]
    for name, runs in outcomes.items():
        cells = ["not run", *[""] * len(sets)]
        if runs:
            cells = [mean_and_range([run.score[-1] for run in runs], ".1f")]
            cells += [mean_and_range([run.ap[key] for run in runs]) for key in sets]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("distillation", _parse, _run, args)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tune_malloc()
    rows = _rows(options)
    sets = [name for name, *_ in options.evaluate]
    outcomes: dict[str, list[Outcome]] = {row.name: [] for row in rows}
    for seed in options.seeds:
        for row in rows:
            outcomes[row.name].append(train(row, seed, options))
            atomic_write(options.output / "table.md", markdown(outcomes, sets))
            curves = {name: [run.score for run in runs] for name, runs in outcomes.items()}
            labels = ("validation", "divergence of scores, nats per image")
            draw_means(curves, options.output / "curves.png", labels)
    print(options.output / "table.md")
    return 0


def _rows(options: argparse.Namespace) -> list[Variant]:
    if options.study == "start":
        return start_variants()
    if options.study == "points":
        return points_variants(options.points, options.lr)
    return boxes_variants(options.fused, options.single, options.unlabelled)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.distillation", __doc__, program="python -m")
    parser.add_argument("study", choices=list(STEPS))
    parser.add_argument("--images", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--teacher", required=True, metavar="MODEL", help="file or released name")
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="student to start from, for boxes"
    )
    for name in ("--fused", "--single", "--unlabelled", "--points"):
        parser.add_argument(name, type=Path, nargs="+", default=[], metavar="JSON")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--evaluate",
        nargs=3,
        action="append",
        default=[],
        metavar=("NAME", "ANNOTATIONS", "IMAGES"),
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--steps", type=positive_int, help=f"default: {STEPS}")
    parser.add_argument(
        "--lr",
        type=positive_float,
        nargs="+",
        default=[1e-4],
        help="of points: what lost much needs a higher rate (default: 1e-4)",
    )
    parser.add_argument("--cache", type=Path, metavar="DIR", help="folder for decoded images")
    parser.add_argument("--runs", type=Path, default=Path("runs/distillation"), metavar="DIR")
    options = parser.parse_args(args)
    needs = {
        "start": [],
        "boxes": ["weights", "fused", "single", "unlabelled"],
        "points": ["points"],
    }[options.study]
    if missing := [f"--{name}" for name in needs if not getattr(options, name)]:
        parser.error(f"{options.study} needs {', '.join(missing)}")
    if options.study != "boxes" and options.weights is not None:
        parser.error("--weights is for boxes")
    if len({file.stem for file in options.points}) < len(options.points):
        parser.error("--points: runs are named as their files, which must differ")
    return options


if __name__ == "__main__":
    sys.exit(main())
