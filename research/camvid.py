r"""Segmentation of CamVid on several backbones, from detectors' weights and from scratch.

Usage:
    python -m research.camvid --data data/camvid --classes camvid_classes.txt --output OUT
    python -m research.camvid ... --new 1        trains one run and returns
    python -m research.camvid ... --latency      times the networks and trains nothing

Every run is that of ``igcv3det train DATA --task segment`` with --epochs, validated once, at its
end; its last weights are scored in float32, each image at its own size. Runs go to OUT/runs. One
that is finished is not repeated, an interrupted one resumes. OUT/table.md is written after each
run; what is missing in it is "not measured". The networks of all rows are timed in turn in ONNX
Runtime. Exit status: 0 done, 1 could not be done.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # before torch, as the training commands do

import torch

from igcv3det.atomic_files import atomic_write
from igcv3det.cli.command import command_parser, run_command
from igcv3det.engine.arguments import option_words
from igcv3det.engine.malloc import tune_malloc
from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.measure.latency import Timing, time_in_turn
from igcv3det.tasks.segment.checkpoint import load_segmenter
from igcv3det.tasks.segment.exported import export_segmenter, load_exported_segmenter
from igcv3det.tasks.segment.predictor import SegmentationPredictor
from igcv3det.tasks.segment.scoring import score_split
from igcv3det.tasks.segment.sources import MaskSource
from igcv3det.tasks.segment.start import starting_fields
from igcv3det.tasks.segment.train import SegmentationCLI
from igcv3det.tasks.segment.train_data import training_call
from research.seeded_runs import RESULT, mean_and_range, train_once

IGNORED = "11"
MISSING = "not measured"
_LATENCY = "latency.json"


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: of the row.
        weights: detector whose backbone is taken.
        pretrained: with its weights; else the backbone alone, from scratch.
        seeds: of its runs.
    """

    name: str
    weights: str
    pretrained: bool
    seeds: tuple[int, ...]

    def folder(self, runs: Path, seed: int) -> Path:
        """Run folder."""
        return runs / f"{self.weights}{'' if self.pretrained else '-scratch'}-seed{seed}"


ROWS = (
    Row("MobileNetV2", "mobilenetv2", True, (0, 1)),
    Row("IGCV3-D", "igcv3-d", True, (0, 1)),
    Row("searched-90", "searched-90", True, (0, 1)),
    Row("MobileNetV2, from scratch", "mobilenetv2", False, (0, 1)),
    Row("IGCV3-D, from scratch", "igcv3-d", False, (0, 1)),
)


def planned(rows: Sequence[Row] = ROWS) -> list[tuple[Row, int]]:
    """All runs: first those from weights, the first seeds of all before the second ones."""
    runs = [(row, seed) for row in rows for seed in row.seeds]
    return sorted(runs, key=lambda run: (not run[0].pretrained, run[1]))


def arguments(row: Row, options: argparse.Namespace) -> list[str]:
    """The call of a training, without seed and folder."""
    words = ["--data.ignore", f"[{IGNORED}]", "--trainer.check_val_every_n_epoch"]
    words += [str(options.epochs)]
    words += ["--model.segmenter.image_size", json.dumps(options.size)]
    if options.classes is not None:
        words += ["--data.classes", str(options.classes)]
    if not row.pretrained:
        # weights converted from TensorFlow have 0.03, with which the variance that the norms begin
        # with is still felt after so few steps
        fields = starting_fields(row.weights) | {"backbone.norm_momentum": 0.1}
        words += ["--model.weights", "null"]
        words += option_words({f"model.segmenter.{key}": fields[key] for key in fields})
    return training_call(options.data, words, weights=row.weights, epochs=options.epochs).arguments


def train(row: Row, seed: int, options: argparse.Namespace) -> None:
    """Trains and scores a run, unless it is finished."""

    def score(folder: Path, best: Path) -> dict[str, Any]:
        segmenter, _ = load_segmenter(best)
        height, width = segmenter.config.image_size
        predictor = SegmentationPredictor.load(best)
        scores, failures = score_split(predictor, MaskSource(options.data).read("val"))
        assert not failures, failures
        counts = {
            "size": [height, width],
            "parameters": count_parameters(segmenter),
            "multiply_adds": count_multiply_adds(segmenter, (1, 3, height, width)),
        }
        return scores.as_json() | counts | {"epochs": options.epochs}

    folder = row.folder(options.output / "runs", seed)
    train_once(SegmentationCLI, arguments(row, options), seed, folder, score)


def results(runs: Path) -> dict[str, list[dict[str, Any]]]:
    """The results of finished runs, by name of the row."""
    files = {row.name: [row.folder(runs, seed) / RESULT for seed in row.seeds] for row in ROWS}
    return {
        name: [json.loads(file.read_text()) for file in own if file.exists()]
        for name, own in files.items()
    }


def markdown(found: Mapping[str, Sequence[Mapping[str, Any]]], latency: Mapping[str, float]) -> str:
    """The tables: mIoU with the costs, and the IoU of each class.

    Args:
        found: results of the runs, by name of the row.
        latency: milliseconds by name of the weights.
    """
    lines = [
        "| backbone | runs | mIoU | pixel accuracy | parameters | multiply-adds | latency, ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in ROWS:
        own = found[row.name]
        if not own:
            lines.append(f"| {row.name} | 0 | {MISSING} | | | | |")
            continue
        scores = mean_and_range([run["mIoU"] for run in own])
        accuracy = mean_and_range([run["pixel_accuracy"] for run in own])
        costs = f"{own[0]['parameters']:,} | {own[0]['multiply_adds'] / 1e6:,.0f} M"
        time = f"{latency[row.weights]:.1f}" if row.weights in latency else MISSING
        lines.append(f"| {row.name} | {len(own)} | {scores} | {accuracy} | {costs} | {time} |")
    done = {name: own for name, own in found.items() if own}
    if not done:
        return "\n".join(lines) + "\n"
    lines += ["", f"| class | {' | '.join(done)} |", f"|---|{'---:|' * len(done)}"]
    for name in next(iter(done.values()))[0]["per_class"]:
        means = (mean(run["per_class"][name] for run in own) for own in done.values())
        lines.append(f"| {name} | {' | '.join(f'{value:.3f}' for value in means)} |")
    return "\n".join(lines) + "\n"


def time_networks(runs: Path, rounds: int, threads: int) -> list[Timing]:
    """Times the networks of all finished rows in ONNX Runtime, in turn, on one image.

    Raises:
        ValueError: no run is finished.
    """
    files = {
        row.weights: row.folder(runs, seed) / "checkpoints" / "best.safetensors"
        for row, seed in planned()
        if (row.folder(runs, seed) / RESULT).exists()
    }
    calls: dict[str, Callable[[], object]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, file in files.items():
            segmenter, classes = load_segmenter(file)
            target = Path(folder) / f"{name}.onnx"
            export_segmenter(segmenter, classes, target)
            exported = load_exported_segmenter(target, threads)
            images = torch.randn(1, 3, *segmenter.config.image_size)
            calls[name] = partial(exported.coarse_logits, images)
        return time_in_turn(calls, rounds)


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("camvid", _parse, _run, args)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    tune_malloc()
    runs = options.output / "runs"
    left = [run for run in planned() if not (run[0].folder(runs, run[1]) / RESULT).exists()]
    if options.latency:
        timed = time_networks(runs, options.rounds, options.threads)
        found = {own.name: own.median_ms for own in timed}
        atomic_write(options.output / _LATENCY, json.dumps(found))
    for row, seed in [] if options.latency else left[: options.new]:
        train(row, seed, options)
        _write_table(options.output)
    print(_write_table(options.output))
    return 0


def _write_table(output: Path) -> Path:
    times = output / _LATENCY
    latency = json.loads(times.read_text()) if times.exists() else {}
    atomic_write(output / "table.md", markdown(results(output / "runs"), latency))
    return output / "table.md"


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.camvid", __doc__, program="python -m")
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="CamVid: train/, train_labels/ ...")
    add("--classes", type=Path, metavar="FILE", help="names of the classes")
    add("--output", type=Path, required=True, metavar="DIR")
    add("--epochs", type=int, default=3)
    add("--size", type=int, nargs=2, default=[256, 352], metavar=("H", "W"))
    add("--new", type=int, metavar="N", help="train at most so many runs")
    add("--latency", action="store_true", help="time the networks instead")
    add("--rounds", type=int, default=50)
    add("--threads", type=int, default=2)
    return parser.parse_args(args)


if __name__ == "__main__":
    sys.exit(main())
