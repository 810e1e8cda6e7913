r"""Exports a detector to another runtime and compares the file with PyTorch.

Examples:
    igcv3det export --checkpoint best.ckpt --output best.onnx --parity photos
    igcv3det export --checkpoint best.ckpt --output best.xml --precision int8 \
        --calibration data/coco/train2017 --images data/coco/val2017 \
        --annotations data/coco/annotations/instances_val2017.json

The ending of --output chooses the format: .onnx, .xml (OpenVINO), .param (ncnn), .tflite (LiteRT),
.pte (ExecuTorch), .mlpackage (Core ML). --format checks the ending. ONNX and OpenVINO files have
all options below. The others take one normalised image float32 [1, 3, S, S] and return boxes and
scores. Core ML files are written here, but run on Apple's systems only, so they are not compared.

Without --nms the graph takes batches of any size and returns boxes [B, A, 4] and scores [B, A, K];
with it, it takes one image and returns boxes [N, 4], scores [N] and labels [N] after class-wise
NMS. Without --preprocess the input is the normalised float32 [B, 3, S, S]; with it, uint8 RGB
images [B, H, W, 3] of any size, and boxes are in their pixels. The file records all of this, the
classes and the thresholds. fp16 halves the file. int8 needs --calibration: a few hundred images
like those that the detector will see, but not those of the evaluation. Its weights take 7 bits,
which every processor computes correctly; --weight-bits 8 is finer, but saturates on processors with
AVX2 and no VNNI. There are no bfloat16 files: OpenVINO computes any .xml in bfloat16 if asked to
when loading (igcv3det.runtime.load_exported).

The report FILE.parity.json compares detections on the images of --parity (else of --images or
--calibration, else on synthetic shapes), and AP if --annotations are given. It holds the limits
that the file is judged by. Unreadable images of --parity are named and left out. Segmenters go to
.onnx and .xml in all precisions; their report has the share of pixels with the same class, the
logits, and with --data the mIoU.

Exit status: 0 all done, 1 something could not be read or written, or the file does not agree with
PyTorch, 2 wrong call.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import WRONG_CALL, command_parser, report, run_command
from igcv3det.cli.progress import counting_up
from igcv3det.cli.results import write_json
from igcv3det.export_formats import FORMATS, format_of

if TYPE_CHECKING:
    from igcv3det.detector import SSDLite
    from igcv3det.runtime import ExportedDetector

CALIBRATION_IMAGES = 300
PARITY_IMAGES = 50
SHAPES_SIZE = 320  # pixels


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("export", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("export", __doc__)
    _add_options(parser)
    options = parser.parse_args(args)
    try:
        own = format_of(options.output, options.format)
        own.check(options.precision, preprocessing=options.preprocess, nms=options.nms)
    except ValueError as error:
        parser.error(str(error))
    if (options.precision == "int8") != bool(options.calibration):
        parser.error("--precision int8 and --calibration go together")
    if bool(options.annotations) != bool(options.images):
        parser.error("--annotations and --images go together")
    return options


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    model = "detector (default: the pretrained mobilenetv2)"
    add("--checkpoint", type=Path, metavar="MODEL", help=model)
    add("--output", type=Path, required=True, metavar="FILE", help="file to write")
    add("--format", choices=FORMATS, help="format of the file (default: from its ending)")
    size = "side of the input, pixels (default: the detector's); no training: see docs/compress.md"
    add("--image-size", type=positive_int, metavar="N", help=size)
    precisions = ["fp32", "fp16", "int8"]
    precision = "precision of the weights (default: fp32)"
    add("--precision", choices=precisions, default="fp32", help=precision)
    add("--nms", action="store_true", help="include NMS in the graph")
    add("--preprocess", action="store_true", help="include preprocessing in the graph")
    add("--calibration", type=Path, metavar="DIR", help="images to calibrate int8 on")
    _add_number(parser, "--calibration-images", CALIBRATION_IMAGES, "calibration images")
    bits = "bits of int8 weights; 8 only for processors with VNNI (default: 7)"
    add("--weight-bits", type=int, choices=[7, 8], default=7, help=bits)
    add("--parity", type=Path, metavar="DIR", help="images to compare with PyTorch on")
    _add_number(parser, "--parity-images", PARITY_IMAGES, "images to compare on")
    add("--annotations", type=Path, metavar="JSON", help="COCO annotation file, to compare AP")
    add("--images", type=Path, metavar="DIR", help="folder of its images")
    add("--data", type=Path, metavar="DIR", help="images and masks, to compare a segmenter's mIoU")


def _add_number(parser: argparse.ArgumentParser, option: str, default: int, what: str) -> None:
    text = f"number of {what} (default: {default})"
    parser.add_argument(option, type=positive_int, default=default, metavar="N", help=text)


def _run(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import load_detector
    from igcv3det.measure.targets import resized
    from igcv3det.pretrained import DEFAULT
    from igcv3det.runtime import load_exported
    from igcv3det.tasks.segment.checkpoint import is_segmenter

    logging.basicConfig(level=logging.WARNING, format="export: %(message)s")
    with tempfile.TemporaryDirectory() as temporary:
        files, source = _parity_images(options, Path(temporary))
        if is_segmenter(options.checkpoint):
            from igcv3det.cli.segment_export import export_segments

            if options.image_size:
                report("export", "--image-size: for detectors")
                return WRONG_CALL
            return export_segments(options, files, source)
        if options.data:
            report("export", "--data: for segmenters; --annotations and --images compare AP")
            return WRONG_CALL
        detector = resized(load_detector(options.checkpoint or DEFAULT), options.image_size)
        if not format_of(options.output).runtime:
            return _export_only(detector, options)
        _export(detector, options)
        exported = load_exported(options.output)
        parity, failures = _parity(detector, exported, files, options)
    parity["images"] |= {"from": source}
    path = _write_parity(parity, options)
    _print_parity(parity)
    print(f"Report is in {path}")
    for sentence in failures:
        report("export", sentence)
    return 1 if failures else 0


def _export_only(detector: SSDLite, options: argparse.Namespace) -> int:
    """Writes a file that nothing runs here, and a report that says so."""
    from igcv3det.runtime.sessions import COREML

    _export(detector, options)
    path = _write_parity({"file": str(options.output), "not_compared": COREML}, options)
    print(f"Not compared with PyTorch: {COREML}")
    print(f"Report is in {path}")
    return 0


def _write_parity(parity: dict[str, Any], options: argparse.Namespace) -> Path:
    path: Path = options.output.with_name(f"{options.output.name}.parity.json")
    write_json(path, parity)
    return path


def _parity_images(options: argparse.Namespace, temporary: Path) -> tuple[list[Path], str]:
    """Readable images to compare on, and their source; checked before the export, which is slow."""
    from igcv3det.export import list_images
    from igcv3det.export.calibration import at_even_steps, split_readable
    from igcv3det.shapes.dataset import write_shapes

    folder = options.parity or options.images or options.calibration
    source = str(folder)
    if folder is None:
        data = write_shapes(temporary, train=1, val=PARITY_IMAGES, image_size=SHAPES_SIZE)
        folder, source = data / "val2017", "synthetic shapes; no --parity given"
    files = list_images(folder, options.parity_images)
    if not files and folder == options.images:
        files = at_even_steps(_annotated(options.annotations, folder), options.parity_images)
    files, unreadable = split_readable(files)
    for sentence in unreadable:
        report("export", f"left out of the comparison: {sentence}")
    if not files:
        raise ValueError(f"{folder}: no images to compare on")
    return files, source


def _annotated(annotations: Path, folder: Path) -> list[Path]:
    """The images that annotations name, which may be in folders below."""
    from igcv3det.datasets.coco import read_coco
    from igcv3det.datasets.listings import FolderListing

    listing = FolderListing(folder)
    return sorted(listing.path(entry.file_name) for entry in read_coco(annotations).images)


def _export(detector: SSDLite, options: argparse.Namespace) -> None:
    from igcv3det.export import CalibrationSet, export_detector
    from igcv3det.preprocess import Preprocess
    from igcv3det.runtime import ExportSpec

    calibration = None
    if options.calibration:
        preprocess = Preprocess(detector.config.preprocess, detector.config.image_size)
        calibration = CalibrationSet(options.calibration, preprocess, options.calibration_images)
        print(f"Calibrating on {len(calibration)} images of {options.calibration}")
    spec = ExportSpec(options.precision, options.preprocess, options.nms)
    export_detector(detector, options.output, spec, calibration, weight_bits=options.weight_bits)
    second = format_of(options.output).weights_suffix
    beside = f" and {options.output.with_suffix(second)}" if second else ""
    print(f"Exported to {options.output}{beside}")


def _parity(
    detector: SSDLite,
    exported: ExportedDetector,
    files: list[Path],
    options: argparse.Namespace,
) -> tuple[dict[str, Any], list[str]]:
    """The report, and a sentence for everything that failed or disagrees."""
    from igcv3det.measure import parity

    limits = parity.limits_of(exported)
    found: dict[str, Any] = {
        "file": str(options.output),
        "export": exported.spec.as_description(exported.config),
        "images": {"number": len(files), "confident_score": parity.CONFIDENT},
        "limits": {**limits._asdict(), "AP": parity.AP_LIMIT},
        "detections": parity.compare_detections(detector, exported, files),
    }
    if not exported.spec.nms:
        found["candidates"] = parity.compare_candidates(detector, exported, files)
    failures = []
    if options.annotations:
        try:
            data = options.annotations, options.images
            with counting_up("AP:") as progress:
                found["AP"] = parity.compare_ap(detector, exported, *data, progress)
            failures += found["AP"]["unreadable"]
        except (OSError, ValueError) as error:
            failures.append(str(error))
    found["disagreements"] = parity.disagreements(found, limits)
    failures += [f"{options.output}: {sentence}" for sentence in found["disagreements"]]
    return found, failures


def _print_parity(parity: dict[str, Any]) -> None:
    images, found = parity["images"], parity["detections"]
    print(f"Compared with PyTorch on {images['number']} images ({images['from']}):")
    print(
        f"  {found['matched']} of {found['confident']} detections above "
        f"{images['confident_score']} matched, {found['extra']} extra"
    )
    if not found["confident"]:
        print("  Nothing detected, so little is compared: take images with objects (--parity)")
    for kind, frame in (("detections", "image"), ("candidates", "network input")):
        for quantity, unit in (("score", ""), ("box_px", f" px of the {frame}")):
            difference = parity.get(kind, {}).get(quantity)
            if difference and difference["largest"] is not None:
                print(
                    f"  {quantity.removesuffix('_px')} difference of {kind}: "
                    f"median {difference['median']:.2g}, 95th percentile {difference['p95']:.2g}, "
                    f"largest {difference['largest']:.2g}{unit}"
                )
    if "AP" in parity:
        ap = parity["AP"]
        values = ["-" if ap[k] is None else f"{ap[k]:.4f}" for k in ("pytorch", "exported", "loss")]
        print("  AP: PyTorch {}, exported {}, loss {}".format(*values))
