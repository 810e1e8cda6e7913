r"""Exports a detector to ONNX Runtime or OpenVINO and compares the file with PyTorch.

Examples:
    igcv3det export --checkpoint best.ckpt --output best.onnx --parity photos
    igcv3det export --checkpoint best.ckpt --output best.xml --precision int8 \
        --calibration data/coco/train2017 --images data/coco/val2017 \
        --annotations data/coco/annotations/instances_val2017.json

Without --nms the graph takes batches of any size and returns boxes [B, A, 4] and scores [B, A, K];
with it, it takes one image and returns boxes [N, 4], scores [N] and labels [N] after class-wise
NMS. Without --preprocess the input is the normalised float32 [B, 3, S, S]; with it, uint8 RGB
images [B, H, W, 3] of any size, and boxes are in their pixels. The file records all of this, the
classes and the thresholds. fp16 halves the file; int8 needs --calibration: a few hundred images
like those that the detector will see, but not those of the evaluation. There are no bfloat16 files:
OpenVINO computes any .xml in bfloat16 if asked to when loading (igcv3det.runtime.load_exported).

The report FILE.parity.json compares detections on the images of --parity (else of --images or
--calibration, else on synthetic shapes), and AP if --annotations are given.

Exit status: 0 all done, 1 something could not be read or written, or the file does not agree with
PyTorch, 2 wrong call.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, report, run_command

if TYPE_CHECKING:
    from igcv3det.detector import SSDLite
    from igcv3det.runtime import ExportedDetector

SUFFIXES = (".onnx", ".xml")
CALIBRATION_IMAGES = 300
PARITY_IMAGES = 50
DRAWN_SIZE = 320  # pixels


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("export", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("export", __doc__)
    add = parser.add_argument
    add(
        "--checkpoint",
        type=Path,
        metavar="MODEL",
        help="detector (default: the pretrained igcv3-d)",
    )
    add("--output", type=Path, required=True, metavar="FILE", help="file to write: .onnx or .xml")
    add(
        "--precision",
        choices=["fp32", "fp16", "int8"],
        default="fp32",
        help="precision of the weights (default: fp32)",
    )
    add("--nms", action="store_true", help="include NMS in the graph")
    add("--preprocess", action="store_true", help="include preprocessing in the graph")
    add("--calibration", type=Path, metavar="DIR", help="images to calibrate int8 on")
    add(
        "--calibration-images",
        type=positive_int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help=f"number of calibration images (default: {CALIBRATION_IMAGES})",
    )
    add("--parity", type=Path, metavar="DIR", help="images to compare with PyTorch on")
    add(
        "--parity-images",
        type=positive_int,
        default=PARITY_IMAGES,
        metavar="N",
        help=f"number of images to compare on (default: {PARITY_IMAGES})",
    )
    add("--annotations", type=Path, metavar="JSON", help="COCO annotation file, to compare AP")
    add("--images", type=Path, metavar="DIR", help="folder of its images")
    options = parser.parse_args(args)
    if options.output.suffix not in SUFFIXES:
        parser.error(f"--output must end in .onnx or .xml, got {options.output}")
    if (options.precision == "int8") != bool(options.calibration):
        parser.error("--precision int8 and --calibration go together")
    if bool(options.annotations) != bool(options.images):
        parser.error("--annotations and --images go together")
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import load_detector
    from igcv3det.pretrained import DEFAULT
    from igcv3det.runtime import load_exported

    logging.basicConfig(level=logging.WARNING, format="export: %(message)s")
    detector = load_detector(options.checkpoint or DEFAULT)
    _export(detector, options)
    exported = load_exported(options.output)
    parity = _report(detector, exported, options)
    wrong = [*parity["faults"], *parity.get("AP", {}).get("unreadable", ())]
    for sentence in wrong:
        report("export", f"{options.output}: {sentence}")
    return 1 if wrong else 0


def _export(detector: SSDLite, options: argparse.Namespace) -> None:
    from igcv3det.export import CalibrationSet, export_detector
    from igcv3det.preprocess import Preprocess
    from igcv3det.runtime import ExportSpec

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
    from igcv3det.export import list_images
    from igcv3det.export.parity import (
        CONFIDENT,
        compare_candidates,
        compare_detections,
        compare_precision,
        faults,
    )
    from igcv3det.shapes.dataset import write_shapes

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
        parity: dict[str, Any] = {
            "file": str(options.output),
            "export": exported.spec.as_description(exported.config),
            "images": {"from": shown, "number": len(files), "confident_score": CONFIDENT},
            "detections": compare_detections(detector, exported, files),
        }
        if not exported.spec.nms:
            parity["candidates"] = compare_candidates(detector, exported, files)
    if options.annotations:
        parity["AP"] = compare_precision(detector, exported, options.annotations, options.images)
    parity["faults"] = faults(parity, exported)
    path = options.output.with_name(f"{options.output.name}.parity.json")
    path.write_text(json.dumps(parity, indent=1), encoding="utf-8")
    _print_report(parity)
    print(f"Report is in {path}")
    return parity


def _print_report(parity: dict[str, Any]) -> None:
    from igcv3det.export.parity import CONFIDENT

    images, found = parity["images"], parity["detections"]
    print(f"Against PyTorch on {images['number']} images ({images['from']}):")
    print(
        f"  {found['found']} of {found['confident']} detections above {CONFIDENT} matched, "
        f"{found['added']} extra"
    )
    for part, frame in (("detections", "image"), ("candidates", "network input")):
        for figure, unit in (("score", ""), ("box_px", f" px of the {frame}")):
            difference = parity.get(part, {}).get(figure)
            if difference and difference["largest"] is not None:
                print(
                    f"  {figure.removesuffix('_px')} difference of {part}: largest "
                    f"{difference['largest']:.2g}{unit}, mean {difference['mean']:.2g}{unit}"
                )
    if "AP" in parity:
        ap = parity["AP"]
        figures = ["-" if ap[k] is None else f"{ap[k]:.4f}" for k in ("eager", "exported", "loss")]
        print("  AP on {} images: PyTorch {}, exported {}, loss {}".format(ap["images"], *figures))
