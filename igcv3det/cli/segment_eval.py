"""``igcv3det eval`` with a segmenter: mIoU, IoU of each class, pixel accuracy."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import TYPE_CHECKING

from igcv3det.cli.command import WRONG_CALL, report
from igcv3det.cli.results import write_json
from igcv3det.measure.tables import format_number, text_table

if TYPE_CHECKING:
    from igcv3det.tasks.segment.evaluation import SegmentationScores

_OF_DETECTORS = ("annotations", "images", "format", "detections", "categories", "results", "plots")


def evaluate_segments(options: argparse.Namespace) -> int:
    """Scores a segmenter on a split of a data set.

    Returns:
        Exit status.
    """
    from igcv3det.tasks.segment.predictor import SegmentationPredictor
    from igcv3det.tasks.segment.scoring import score_split
    from igcv3det.tasks.segment.sources import MaskSource, validation_split

    if wrong := _wrong_options(options):
        report("eval", f"{wrong}; {options.checkpoint} is a segmenter")
        return WRONG_CALL
    source = MaskSource(options.data, options.classes)
    every = source.read(options.split or validation_split(source))
    samples = every[: options.limit]
    predictor = SegmentationPredictor.load(options.checkpoint, options.device)
    classes = predictor.classes.of_table(source.table)
    if options.ignore is not None:
        classes = classes._replace(ignored=tuple(options.ignore))

    scores, failures = score_split(
        predictor,
        samples,
        classes,
        batch_size=options.batch_size,
        workers=options.workers,
        progress=partial(_show_progress, len(samples)),
    )
    for failure in failures:
        report("eval", failure)
    if scores.miou is None:
        report("eval", f"{options.data}: no pixel of a class to compare with")
        return 1
    _print_report(scores, failures)
    if len(samples) < len(every):
        print(f"PARTIAL: only the first {len(samples)} of {len(every)} images were evaluated")
    if options.output:
        extent = {"partial": len(samples) < len(every), "unusable_images": len(failures)}
        write_json(options.output, scores.as_json() | extent)
        print(f"Figures are in {options.output}")
    return 1 if failures else 0


def _wrong_options(options: argparse.Namespace) -> str | None:
    given = [f"--{name}" for name in _OF_DETECTORS if getattr(options, name, None) is not None]
    if given:
        return f"{', '.join(given)}: for detectors"
    return None if options.data else "needs --data"


def _show_progress(total: int, done: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\r{done} of {total} images", end=end, file=sys.stderr, flush=True)


def _print_report(scores: SegmentationScores, failures: list[str]) -> None:
    plain = scores.as_json()
    total = sum(plain["pixels"].values())
    rows = [
        [name, format_number(plain["per_class"][name]), f"{100 * pixels / total:.2f} %"]
        for name, pixels in plain["pixels"].items()
    ]
    print(text_table(["class", "IoU", "pixels"], rows))
    print(
        f"\nmIoU {plain['mIoU']:.4f}   pixel accuracy {plain['pixel_accuracy']:.4f}   "
        f"{plain['images']} images"
    )
    if failures:
        print(f"{len(failures)} images could not be used and are left out")
