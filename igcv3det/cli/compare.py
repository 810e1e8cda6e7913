r"""Compares networks: parameters, multiply-adds, CPU latency and, on a data set, AP or mIoU.

Examples:
    igcv3det compare
    igcv3det compare best.safetensors mobilenetv2 --data data/mine
    igcv3det compare runs/*/checkpoints/best.safetensors --data data/masks
    igcv3det compare igcv3.safetensors mobilenetv2.safetensors --images data/coco/val2017 \
        --annotations data/coco/annotations/instances_val2017.json --json comparison.json

MODEL is a configuration (random weights), a checkpoint, a name of pretrained weights or an exported
file; the default is IGCV3-D and MobileNetV2, both with SSDLite at 320x320. Latency is
the median time of the network for one image on the CPU, in PyTorch or the runtime of the exported
file; the models are timed in turn in one process, and the ratio is to the first. AP needs trained
weights and a data set. Segmenters are compared with each other, with mIoU on images and masks.

Exit status: 0 all done, 1 a model or an image could not be read, 2 wrong call.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, report, run_command
from igcv3det.cli.data_options import add_data_options, read_data, require_data
from igcv3det.cli.errors import error_line
from igcv3det.cli.progress import counting
from igcv3det.cli.results import refuse_overwriting, write_json
from igcv3det.config_files import config_folder
from igcv3det.measure.tables import format_number, text_table

if TYPE_CHECKING:
    from igcv3det.detector import SSDLite
    from igcv3det.runtime import ExportedDetector

DEFAULT_MODELS = ("igcv3_ssdlite320_coco.yaml", "mobilenetv2_ssdlite320_coco.yaml")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("compare", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("compare", __doc__)
    add = parser.add_argument
    add("model", nargs="*", type=Path, metavar="MODEL", help="networks; the first is the baseline")
    add_data_options(parser, "val")
    colours = "segmenters: names and colours of the classes of the masks"
    add("--classes", type=Path, metavar="FILE", help=colours)
    add("--json", type=Path, metavar="FILE", help="write the figures to this file")
    add("--threads", type=positive_int, default=2, help="threads (default: 2)")
    add("--rounds", type=positive_int, default=20, help="timings of each model (default: 20)")
    options = parser.parse_args(args)
    require_data(parser, options, need_data=False)
    refuse_overwriting(parser, options, [*options.model, options.annotations], ["json"])
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.tasks.segment.checkpoint import are_segmenters

    if are_segmenters(options.model):
        from igcv3det.cli.segment_compare import compare_segments

        return compare_segments(options)
    return _compare_detectors(options)


def _compare_detectors(options: argparse.Namespace) -> int:
    from igcv3det.measure.comparison import compare
    from igcv3det.measure.targets import unique_names

    if options.data or options.annotations:
        importlib.import_module("pycocotools")  # a missing one is reported before anything runs
    failures: list[str] = []
    models = unique_names(options.model or [config_folder() / name for name in DEFAULT_MODELS])
    detectors = _load(models, options.threads, failures)
    precisions = _average_precisions(detectors, models, options, failures)
    for failure in failures:
        report("compare", failure)
    if not detectors:
        return 1
    rows = compare(detectors, precisions, rounds=options.rounds, threads=options.threads)
    sizes = {f"{d.config.image_size} px" for d in detectors.values()}
    print_comparison(rows, sizes, options)
    return 1 if failures else 0


def _load(
    models: dict[str, Path], threads: int, failures: list[str]
) -> dict[str, SSDLite | ExportedDetector]:
    from igcv3det.checkpoint import load_detector
    from igcv3det.runtime import EXPORTED_SUFFIXES, load_exported

    detectors: dict[str, SSDLite | ExportedDetector] = {}
    for name, path in models.items():
        try:
            is_exported = path.suffix in EXPORTED_SUFFIXES
            detectors[name] = load_exported(path, threads) if is_exported else load_detector(path)
        except (OSError, ValueError, ImportError) as error:
            failures.append(error_line(error))
    return detectors


def _average_precisions(
    detectors: dict[str, SSDLite | ExportedDetector],
    models: dict[str, Path],
    options: argparse.Namespace,
    failures: list[str],
) -> dict[str, float | None]:
    """AP of every detector that has trained weights; what goes wrong is added to the failures."""
    precisions: dict[str, float | None] = {}
    if not options.data and not options.annotations:
        return precisions
    from igcv3det.evaluation import CocoEvaluator
    from igcv3det.evaluation.dataset_inference import average_precision

    try:
        record, images = read_data(options)
        CocoEvaluator(record).require_objects()
    except (OSError, ValueError) as error:
        failures.append(error_line(error))
        return precisions
    for name in [n for n in detectors if models[n].suffix not in (".yaml", ".yml")]:
        try:
            with counting(f"{name}:", len(record.images)) as progress:
                precisions[name], unreadable = average_precision(
                    detectors[name], record, images, progress
                )
        except (OSError, ValueError) as error:
            failures.append(f"{name}: {error}")
            continue
        failures += [f"{name}: {sentence}" for sentence in unreadable]
    return precisions


def print_comparison(
    rows: Sequence[Mapping[str, Any]],
    sizes: Iterable[str],
    options: argparse.Namespace,
    score: str = "AP",
) -> None:
    """Prints the table and how it was measured, and writes ``--json``.

    Args:
        rows: of a comparison.
        sizes: of the networks' inputs, as they are printed.
        options: of the command.
        score: key of the accuracy.
    """
    print(comparison_table(rows, score))
    print(
        f"1 image, {', '.join(sorted(sizes))}, {options.threads} threads, {options.rounds} rounds"
    )
    if options.json:
        write_json(options.json, rows)
        print(f"Figures are in {options.json}")


def comparison_table(rows: Sequence[Mapping[str, Any]], score: str = "AP") -> str:
    """The rows as text, for a terminal.

    Args:
        rows: of a comparison.
        score: key of the accuracy.
    """
    header = ["model", "parameters", "multiply-adds", "latency", "ratio", score]
    cells = [
        [
            row["name"],
            f"{row['parameters'] / 1e6:.2f} M",
            f"{row['multiply_adds'] / 1e6:.0f} M",
            f"{row['latency_ms']:.1f} ms",
            f"{row['latency_ratio']:.2f}",
            format_number(row[score]),
        ]
        for row in rows
    ]
    return text_table(header, cells)
