r"""Times detectors in several libraries and precisions, in turn in one process.

Usage:
    python tools/benchmark.py MODEL... [--backend torch,onnxruntime,openvino] [--precision fp32]
        [--threads 2] [--batch 1] [--image-size N] [--rounds 20] [--json FILE] [--no-memory]
        [--calibration DIR] [--whole-path [--image FILE]] [--clock wall]
    python tools/benchmark.py MODEL... --train [--execution fast] [--keep-norm-statistics]
        [--batch 16] ...

Examples:
    python tools/benchmark.py configs/mobilenetv2_ssdlite320_coco.yaml \
        configs/igcv3_ssdlite320_coco.yaml --precision fp32,bf16,int8 --rounds 100
    python tools/benchmark.py configs/mobilenetv2_ssdlite320_coco.yaml \
        configs/igcv3_ssdlite320_coco.yaml --train --precision bf16 --batch 16 \
        --execution reference,fast
    python tools/benchmark.py igcv3.onnx --whole-path --image street.jpg

MODEL is a configuration (random weights), a checkpoint, or an exported file. The first two are
deployed for PyTorch and exported for the other libraries on the way; an exported file runs in its
own library and precision (an .xml in bf16 too, if asked for). bf16 is PyTorch's and OpenVINO's,
int8 ONNX Runtime's and OpenVINO's; it is calibrated on --calibration or on drawn images, which is
enough for times. ONNX Runtime and OpenVINO include the decoding of boxes and scores.

Every round runs each model once. The table has the median, the distance of the 10th and the 90th
percentile, and the ratio to the first MODEL in the same library and precision. Memory is the peak
of a process that does nothing else. --whole-path times the way from a file to boxes and its parts,
one image at a time; give it trained weights, as suppression depends on the scores. --train times
forward pass, loss, backward pass and optimizer in PyTorch: execution "fast" is that of
igcv3det.fastpath.conv_impl in channels-last layout, "reference" goes step by step, contiguous;
with --keep-norm-statistics batch normalisations keep theirs, as in fine-tuning.
"--clock cpu --threads 1" counts processor time instead of time that passes, for busy machines.

Exit status: 0 all done, 1 a model could not be read or run, 2 wrong call.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from igcv3det.cli.argument_types import count
from igcv3det.measure.benchmark import BenchmarkRow, time_group
from igcv3det.measure.latency import Timing
from igcv3det.measure.machine import processor_name
from igcv3det.measure.plan import Setting, plan, synthetic_images
from igcv3det.measure.tables import figure, text_table
from igcv3det.measure.training_step import StepForm

BACKENDS = ("torch", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "int8")
EXECUTIONS = ("reference", "fast")

Found = list[tuple[BenchmarkRow, Timing]]


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parse(args)
    logging.basicConfig(level=logging.WARNING, format="benchmark: %(message)s")
    found, failures = _run(options)
    for failure in failures:
        print(f"benchmark: {failure}", file=sys.stderr)
    if not found:
        return 1
    print(_table(found))
    print(_circumstances(options))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps([row for row, _ in found], indent=1)
        options.json.write_text(text, encoding="utf-8")
        print(f"Figures are in {options.json}")
    return 1 if failures else 0


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--backend", type=_some_of(BACKENDS), default=BACKENDS)
    parser.add_argument("--precision", type=_some_of(PRECISIONS), default=("fp32",))
    parser.add_argument("--threads", type=count, default=2)
    parser.add_argument("--batch", type=count, default=1)
    parser.add_argument("--image-size", type=count, metavar="N", help="input side, pixels")
    parser.add_argument("--rounds", type=count, default=20, help="times each model is timed")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--no-memory", action="store_true", help="saves a process a row")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="images for int8")
    parser.add_argument("--whole-path", action="store_true", help="from a file to boxes")
    parser.add_argument("--image", type=Path, metavar="FILE", help="for --whole-path")
    parser.add_argument("--train", action="store_true", help="a training step in PyTorch")
    parser.add_argument("--execution", type=_some_of(EXECUTIONS), default=("fast",))
    parser.add_argument("--keep-norm-statistics", action="store_true", help="for --train")
    options = parser.parse_args(args)
    if options.train and options.whole_path:
        parser.error("--train and --whole-path are two benchmarks")
    return options


def _run(options: argparse.Namespace) -> tuple[Found, list[str]]:
    """Rows, and a sentence for everything that could not be done."""
    setting = Setting(
        options.threads,
        options.batch,
        options.image_size,
        options.calibration,
        tuple(StepForm(e, options.keep_norm_statistics) for e in options.execution)
        if options.train
        else (),
    )
    found: Found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        groups, failures = plan(options.model, options.backend, options.precision, setting, folder)
        image = options.image
        if options.whole_path and image is None:
            image = min(synthetic_images(folder).iterdir())
        for group in groups:
            try:
                found += time_group(
                    group,
                    options.rounds,
                    clock=time.process_time if options.clock == "cpu" else time.perf_counter,
                    memory=not options.no_memory,
                    image_file=image if options.whole_path else None,
                )
            except (OSError, ValueError, ImportError) as error:
                failures.append(str(error))
    return found, failures


def _table(found: Found) -> str:
    header = ["model", "library", "precision", "part", "median", "10-90 %", "ratio", "peak"]
    cells = [
        [
            row["model"],
            row["backend"],
            row["precision"],
            row.get("part", ""),
            f"{row['median_ms']:.2f} ms",
            f"{timing.spread_ms:.2f} ms",
            f"{row['ratio']:.2f}",
            f"{figure(row['peak_mib'], '.0f')} MiB",
        ]
        for row, timing in found
    ]
    if not any("part" in row for row, _ in found):
        header.remove("part")
        cells = [[cell for column, cell in enumerate(line) if column != 3] for line in cells]
    return text_table(header, cells)


def _circumstances(options: argparse.Namespace) -> str:
    """What the figures depend on besides the models."""
    size = f"{options.image_size} px" if options.image_size else "each at its own size"
    what = "training step" if options.train else "inference"
    batch = 1 if options.whole_path else options.batch
    versions = [
        f"{package} {metadata.version(package)}"
        for package in (
            "torch",
            *(b for b in options.backend if b != "torch" and not options.train),
        )
    ]
    return (
        f"{what}, batch {batch}, {size}, {options.threads} threads, {options.rounds} rounds, "
        f"{options.clock} clock; "
        f"{processor_name()}; {', '.join(versions)}; {datetime.date.today():%Y-%m-%d}"
    )


def _some_of(choices: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        words = tuple(dict.fromkeys(text.split(",")))
        if not set(words) <= set(choices):
            raise argparse.ArgumentTypeError(f"takes some of {','.join(choices)}, got {text!r}")
        return words

    return parse
