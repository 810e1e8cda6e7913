r"""Times networks in several libraries and precisions, in turn in one process.

Examples:
    igcv3det benchmark configs/mobilenetv2_ssdlite320_coco.yaml \
        configs/igcv3_ssdlite320_coco.yaml --precision fp32,bf16,int8 --rounds 100
    igcv3det benchmark configs/mobilenetv2_ssdlite320_coco.yaml \
        configs/igcv3_ssdlite320_coco.yaml --train --precision bf16 --batch 16 \
        --conv-impl reference,fast
    igcv3det benchmark igcv3.onnx --whole-path --image street.jpg

MODEL is a configuration (random weights), a checkpoint, a name of pretrained weights or an exported
file. All but exported files are deployed for PyTorch and exported to the other libraries; an
exported file runs in its own library and precision (an .xml also in bf16). bf16 is for PyTorch and
OpenVINO, int8 for the libraries that have it, calibrated on --calibration or on synthetic shapes,
which is enough for timing. All but PyTorch include the decoding of boxes and scores.

Every round runs each model once. The table has the median, the distance of the 10th and the 90th
percentile, and the ratio to the first MODEL in the same library and precision. Memory is the peak
of a separate process for each row. --whole-path times the stages from a file to boxes, one image at
a time; use trained weights, as the time of NMS depends on the scores. --train times forward pass,
loss, backward pass and optimizer in PyTorch: "fast" is that of igcv3det.fastpath.conv_impl in
channels-last layout, "reference" the plain modules, contiguous. Segmenters are timed as networks,
to logits of the input's size, in PyTorch, ONNX Runtime and OpenVINO.

Exit status: 0 all done, 1 a model could not be read or run, 2 wrong call.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.arguments import positive_int, some_of
from igcv3det.cli.command import WRONG_CALL, command_parser, report, run_command
from igcv3det.cli.errors import error_line
from igcv3det.cli.progress import counting
from igcv3det.cli.results import refuse_overwriting, write_json
from igcv3det.export_formats import RUNTIMES
from igcv3det.measure.tables import format_number, text_table

if TYPE_CHECKING:
    from igcv3det.measure.benchmark import BenchmarkRow, BenchmarkSettings
    from igcv3det.measure.latency import Timing

    Found = list[tuple[BenchmarkRow, Timing]]

BACKENDS = ("torch", *RUNTIMES)
DISTRIBUTIONS = {"litert": "ai-edge-litert"}  # where the name differs
DEFAULT_BACKENDS = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
CONV_IMPLS = ("reference", "fast")
_OF_DETECTORS = ("image_size", "whole_path", "image", "train")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("benchmark", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("benchmark", __doc__)
    _add_options(parser)
    options = parser.parse_args(args)
    if options.train and options.whole_path:
        parser.error("--train and --whole-path are two benchmarks")
    refuse_overwriting(parser, options, [*options.model, options.image], ["json"])
    if options.backend is None:
        endings = {model.suffix for model in options.model}
        given = (name for name, known in RUNTIMES.items() if known.suffix in endings)
        options.backend = tuple(dict.fromkeys([*DEFAULT_BACKENDS, *given]))
    return options


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", nargs="+", type=Path, metavar="MODEL", help="networks; the first is the baseline")
    add(
        "--backend",
        type=some_of(BACKENDS),
        metavar="NAMES",
        help=f"libraries: some of {','.join(BACKENDS)} (default: {','.join(DEFAULT_BACKENDS)} "
        "and those of exported files)",
    )
    _add_names(parser, ("--precision",), PRECISIONS, ("fp32",), "precisions")
    add("--threads", type=positive_int, default=2, help="threads of every library (default: 2)")
    add("--batch", type=positive_int, default=1, metavar="N", help="batch size (default: 1)")
    add("--image-size", type=positive_int, metavar="N", help="input size, pixels")
    add("--rounds", type=positive_int, default=20, help="timings of each model (default: 20)")
    add(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="elapsed time (default) or, with --threads 1 on a busy machine, processor time",
    )
    add("--json", type=Path, metavar="FILE", help="write the figures to this file")
    add("--no-memory", action="store_true", help="do not measure memory (one process a row)")
    add("--calibration", type=Path, metavar="DIR", help="images to calibrate int8 on")
    add("--whole-path", action="store_true", help="time the stages from a file to boxes")
    add("--image", type=Path, metavar="FILE", help="image of --whole-path (default: synthetic)")
    add("--train", action="store_true", help="time a training step in PyTorch")
    conv_impl = ("--conv-impl", "--execution")  # the second is its name until 2026-11
    _add_names(parser, conv_impl, CONV_IMPLS, ("fast",), "implementations for --train")
    add(
        "--freeze-bn-stats",
        "--keep-norm-statistics",  # its name until 2026-11
        action="store_true",
        help="for --train: batch norm statistics are frozen, as in fine-tuning",
    )


def _add_names(
    parser: argparse.ArgumentParser,
    names: tuple[str, ...],
    choices: tuple[str, ...],
    default: tuple[str, ...],
    what: str,
) -> None:
    text = f"{what}: some of {','.join(choices)} (default: {','.join(default)})"
    parser.add_argument(*names, type=some_of(choices), default=default, metavar="NAMES", help=text)


def _run(options: argparse.Namespace) -> int:
    from igcv3det.tasks.segment.checkpoint import are_segmenters

    logging.basicConfig(level=logging.WARNING, format="benchmark: %(message)s")
    segments = are_segmenters(options.model)
    given = [f"--{name.replace('_', '-')}" for name in _OF_DETECTORS if getattr(options, name)]
    if segments and given:
        report("benchmark", f"{', '.join(given)}: for detectors; {options.model[0]} is a segmenter")
        return WRONG_CALL
    found, failures = _time(options, segments=segments)
    for failure in failures:
        report("benchmark", failure)
    if not found:
        return 1
    print(_table(found))
    print(_conditions(options, found))
    if options.json:
        write_json(options.json, [row for row, _ in found])
        print(f"Figures are in {options.json}")
    return 1 if failures else 0


def _time(options: argparse.Namespace, *, segments: bool) -> tuple[Found, list[str]]:
    """Rows, and a sentence for everything that could not be done."""
    from igcv3det.measure.benchmark import plan_groups, synthetic_images, time_group
    from igcv3det.measure.detectors import DETECTORS, detector_targets
    from igcv3det.tasks.segment.benchmark import SEGMENTERS, segmenter_targets

    settings = _settings(options)
    found: Found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups, failures = plan_groups(
            options.model,
            options.backend,
            options.precision,
            settings,
            folder,
            segmenter_targets if segments else detector_targets,
        )
        image = options.image
        if options.whole_path and image is None:
            image = min(synthetic_images(folder).iterdir())
        done = 0
        with counting("models timed", sum(len(group.targets) for group in groups)) as progress:
            for group in groups:
                try:
                    found += time_group(
                        group,
                        options.rounds,
                        SEGMENTERS if segments else DETECTORS,
                        clock=time.process_time if options.clock == "cpu" else time.perf_counter,
                        memory=not options.no_memory,
                        image_file=image if options.whole_path else None,
                    )
                except (OSError, ValueError, ImportError) as error:
                    failures.append(error_line(error))
                done += len(group.targets)
                progress(done)
    return found, failures


def _settings(options: argparse.Namespace) -> BenchmarkSettings:
    from igcv3det.measure.benchmark import BenchmarkSettings
    from igcv3det.measure.training_step import TrainingStepOptions

    steps = [TrainingStepOptions(impl, options.freeze_bn_stats) for impl in options.conv_impl]
    return BenchmarkSettings(
        options.threads,
        options.batch,
        options.image_size,
        options.calibration,
        tuple(steps) if options.train else (),
    )


def _table(found: Found) -> str:
    header = ["model", "library", "precision", "stage", "median", "10-90 %", "ratio", "peak"]
    cells = [
        [
            row["model"],
            row["backend"],
            row["precision"],
            row.get("stage", ""),
            f"{row['median_ms']:.2f} ms",
            f"{timing.spread_ms:.2f} ms",
            f"{row['ratio']:.2f}",
            f"{format_number(row['peak_mib'], '.0f')} MiB",
        ]
        for row, timing in found
    ]
    if not any("stage" in row for row, _ in found):
        header.remove("stage")
        cells = [[cell for column, cell in enumerate(line) if column != 3] for line in cells]
    return text_table(header, cells)


def _conditions(options: argparse.Namespace, found: Found) -> str:
    """What the figures depend on besides the models."""
    from igcv3det.measure.machine import processor_name

    size = f"{options.image_size} px" if options.image_size else "each at its own size"
    what = "training step" if options.train else "inference"
    batch = 1 if options.whole_path else options.batch
    versions = [
        f"{package} {metadata.version(DISTRIBUTIONS.get(package, package))}"
        for package in (
            "torch",
            *(name for name in RUNTIMES if any(row["backend"] == name for row, _ in found)),
        )
    ]
    return (
        f"{what}, batch {batch}, {size}, {options.threads} threads, {options.rounds} rounds, "
        f"{options.clock} clock; "
        f"{processor_name()}; {', '.join(versions)}; {datetime.date.today():%Y-%m-%d}"
    )
