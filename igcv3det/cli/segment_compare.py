"""``igcv3det compare`` of segmenters: parameters, multiply-adds, latency and mIoU."""

from __future__ import annotations

import argparse
from pathlib import Path

from igcv3det.cli.command import WRONG_CALL, report
from igcv3det.cli.compare import print_comparison
from igcv3det.cli.errors import error_line
from igcv3det.cli.progress import counting
from igcv3det.measure.targets import unique_names
from igcv3det.runtime import EXPORTED_SUFFIXES
from igcv3det.tasks.segment.checkpoint import load_segmenter
from igcv3det.tasks.segment.comparison import compare_networks
from igcv3det.tasks.segment.exported import ExportedSegmenter, load_exported_segmenter
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.tasks.segment.predictor import SegmentationPredictor
from igcv3det.tasks.segment.scoring import score_split
from igcv3det.tasks.segment.sources import MaskSource, validation_split

Networks = dict[str, Segmenter | ExportedSegmenter]


def compare_segments(options: argparse.Namespace) -> int:
    """Compares segmenters and prints the table.

    Returns:
        Exit status.
    """
    given = [f"--{name}" for name in ("annotations", "images", "format") if getattr(options, name)]
    if given:
        report("compare", f"{', '.join(given)}: for detectors; segmenters take --data")
        return WRONG_CALL
    failures: list[str] = []
    models = unique_names(options.model)
    networks: Networks = {}
    for name, path in models.items():
        try:
            networks[name] = _load(path, options.threads)
        except (OSError, ValueError, ImportError) as error:
            failures.append(error_line(error))
    mious = _mious(networks, models, options, failures) if options.data else {}
    for failure in failures:
        report("compare", failure)
    if not networks:
        return 1
    rows = compare_networks(networks, mious, rounds=options.rounds, threads=options.threads)
    sizes = {"{1} x {0} px".format(*own.config.image_size) for own in networks.values()}
    print_comparison(rows, sizes, options, "mIoU")
    return 1 if failures else 0


def _load(path: Path, threads: int) -> Segmenter | ExportedSegmenter:
    if path.suffix in EXPORTED_SUFFIXES:
        return load_exported_segmenter(path, threads)
    return load_segmenter(path)[0]


def _mious(
    networks: Networks, models: dict[str, Path], options: argparse.Namespace, failures: list[str]
) -> dict[str, float | None]:
    """The mIoU of all with trained weights; what goes wrong is added to the failures."""
    mious: dict[str, float | None] = {}
    try:
        source = MaskSource(options.data, options.classes)
        samples = source.read(options.split or validation_split(source))
    except (OSError, ValueError) as error:
        failures.append(error_line(error))
        return mious
    for name in [own for own in networks if models[own].suffix not in (".yaml", ".yml")]:
        predictor = SegmentationPredictor.load(models[name])
        try:
            classes = predictor.classes.of_table(source.table)
        except ValueError as error:
            failures.append(f"{name}: {error_line(error)}")
            continue
        with counting(f"{name}:", len(samples)) as progress:
            scores, unusable = score_split(predictor, samples, classes, progress=progress)
        mious[name] = scores.miou
        failures += [f"{name}: {sentence}" for sentence in unusable]
    return mious
