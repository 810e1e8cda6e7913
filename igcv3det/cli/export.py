r"""Writes a detector for ONNX Runtime or OpenVINO, and a report of how it agrees with PyTorch.

Usage:
    python tools/export.py --checkpoint MODEL --output FILE.onnx|FILE.xml
                           [--precision fp32|fp16|int8] [--nms] [--preprocess]
                           [--calibration DIR] [--parity DIR] [--annotations JSON --images DIR]

Examples:
    python tools/export.py --checkpoint best.ckpt --output best.onnx --parity photos
    python tools/export.py --checkpoint best.ckpt --output best.xml --precision int8 \
        --calibration data/coco/train2017 --images data/coco/val2017 \
        --annotations data/coco/annotations/instances_val2017.json

Without --nms a file takes batches of any size and gives boxes [B, A, 4] and scores [B, A, K]; with
it, one image at a time, and boxes [N, 4], scores [N], labels [N] after class-wise suppression.
Without --preprocess the input is the normalised float32 [B, 3, S, S]; with it, uint8 RGB images
[B, H, W, 3] of any size, and boxes are in their pixels. All of that, the classes and the thresholds
are written into the file. fp16 halves the file; int8 needs --calibration: a few hundred images
of the kind that the detector will see, but not those it is scored on. bfloat16 is no kind of file:
OpenVINO computes any .xml in it if asked to when loading (igcv3det.runtime.load_exported).

The report FILE.parity.json compares detections on the images of --parity (else of --images or
--calibration, else on images drawn by igcv3det.shapes.dataset), and AP if --annotations are given.

Exit status: 0 all done, 1 something could not be read or written, or the file does not agree with
PyTorch, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from igcv3det.checkpoint import load_detector
from igcv3det.cli.argument_types import count
from igcv3det.detector import SSDLite
from igcv3det.export import CALIBRATION_IMAGES, CalibrationSet, export_detector, list_images
from igcv3det.export.parity import (
    CONFIDENT,
    compare_candidates,
    compare_detections,
    compare_precision,
    faults,
)
from igcv3det.preprocess import Preprocess
from igcv3det.pretrained import DEFAULT
from igcv3det.runtime import EXPORTED_SUFFIXES, ExportedDetector, ExportSpec, load_exported
from igcv3det.shapes.dataset import write_shapes

PARITY_IMAGES = 50
DRAWN_SIZE = 320  # pixels


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parse(args)
    logging.basicConfig(level=logging.WARNING, format="export: %(message)s")
    try:
        detector = load_detector(options.checkpoint or DEFAULT)
        _export(detector, options)
        exported = load_exported(options.output)
        report = _report(detector, exported, options)
    except (OSError, ValueError, ImportError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    wrong = [*report["faults"], *report.get("AP", {}).get("unreadable", ())]
    for sentence in wrong:
        print(f"export: {options.output}: {sentence}", file=sys.stderr)
    return 1 if wrong else 0


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--checkpoint", type=Path, metavar="MODEL", help="default: the released weights"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--precision", choices=["fp32", "fp16", "int8"], default="fp32")
    parser.add_argument("--nms", action="store_true", help="suppression inside")
    parser.add_argument("--preprocess", action="store_true", help="preprocessing inside")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="images for int8")
    parser.add_argument("--calibration-images", type=count, default=CALIBRATION_IMAGES)
    parser.add_argument("--parity", type=Path, metavar="DIR", help="images to compare on")
    parser.add_argument("--parity-images", type=count, default=PARITY_IMAGES)
    parser.add_argument("--annotations", type=Path, metavar="JSON", help="to compare AP")
    parser.add_argument("--images", type=Path, metavar="DIR", help="of the annotations")
    options = parser.parse_args(args)
    if options.output.suffix not in EXPORTED_SUFFIXES:
        parser.error(f"--output must end in .onnx or .xml, got {options.output}")
    if (options.precision == "int8") != bool(options.calibration):
        parser.error("--precision int8 and --calibration go together")
    if bool(options.annotations) != bool(options.images):
        parser.error("--annotations and --images go together")
    return options


def _export(detector: SSDLite, options: argparse.Namespace) -> None:
    calibration = None
    if options.calibration:
        preprocess = Preprocess(detector.config.preprocess, detector.config.image_size)
        calibration = CalibrationSet(options.calibration, preprocess, options.calibration_images)
        print(f"Calibrating on {len(calibration)} images of {options.calibration}")
    facts = ExportSpec(options.precision, options.preprocess, options.nms)
    export_detector(detector, options.output, facts, calibration)
    weights = options.output.with_suffix(".bin")
    beside = f" and {weights}" if options.output.suffix == ".xml" else ""
    print(f"Exported to {options.output}{beside}")


def _report(
    detector: SSDLite, exported: ExportedDetector, options: argparse.Namespace
) -> dict[str, Any]:
    folder = options.parity or options.images or options.calibration
    with tempfile.TemporaryDirectory() as drawn:
        if folder is None:
            folder = write_shapes(drawn, train=1, val=PARITY_IMAGES, image_size=DRAWN_SIZE)
            folder, shown = folder / "val2017", "synthetic shapes, for want of --parity"
        else:
            shown = str(folder)
        files = list_images(folder, options.parity_images)
        if not files:
            raise ValueError(f"{folder}: no images to compare on")
        report: dict[str, Any] = {
            "file": str(options.output),
            "export": exported.spec.as_description(exported.config),
            "images": {"from": shown, "number": len(files), "confident_score": CONFIDENT},
            "detections": compare_detections(detector, exported, files),
        }
        if not exported.spec.suppression:
            report["candidates"] = compare_candidates(detector, exported, files)
    if options.annotations:
        report["AP"] = compare_precision(detector, exported, options.annotations, options.images)
    report["faults"] = faults(report, exported)
    path = options.output.with_name(f"{options.output.name}.parity.json")
    path.write_text(json.dumps(report, indent=1), encoding="utf-8")
    _print_report(report)
    print(f"Report is in {path}")
    return report


def _print_report(report: dict[str, Any]) -> None:
    images, found = report["images"], report["detections"]
    print(f"Against PyTorch on {images['number']} images ({images['from']}):")
    print(
        f"  {found['found']} of {found['confident']} detections above {CONFIDENT} found again, "
        f"{found['added']} added"
    )
    for part, frame in (("detections", "image"), ("candidates", "network input")):
        for figure, unit in (("score", ""), ("box_px", f" px of the {frame}")):
            difference = report.get(part, {}).get(figure)
            if difference and difference["largest"] is not None:
                print(
                    f"  {figure.removesuffix('_px')} difference of {part}: largest "
                    f"{difference['largest']:.2g}{unit}, mean {difference['mean']:.2g}{unit}"
                )
    if "AP" in report:
        ap = report["AP"]
        figures = ["-" if ap[k] is None else f"{ap[k]:.4f}" for k in ("eager", "exported", "loss")]
        print("  AP on {} images: PyTorch {}, exported {}, loss {}".format(ap["images"], *figures))
