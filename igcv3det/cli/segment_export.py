"""``igcv3det export`` of a segmenter: the file and its parity report."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from igcv3det.cli.command import WRONG_CALL, report
from igcv3det.cli.progress import counting_up
from igcv3det.cli.results import write_json
from igcv3det.export.calibration import CalibrationSet
from igcv3det.tasks.segment.checkpoint import load_segmenter
from igcv3det.tasks.segment.exported import export_segmenter, load_exported_segmenter
from igcv3det.tasks.segment.inputs import InputTransform
from igcv3det.tasks.segment.masks import ClassLabels
from igcv3det.tasks.segment.network import Segmenter
from igcv3det.tasks.segment.parity import (
    LIMITS,
    MIOU_LIMIT,
    compare_miou,
    compare_segmenters,
    segmenter_disagreements,
)
from igcv3det.tasks.segment.sources import MaskedImage, MaskSource, validation_split

_OF_DETECTORS = ("nms", "preprocess", "annotations")


def export_segments(options: argparse.Namespace, files: list[Path], source: str) -> int:
    """Exports a segmenter and compares the file with PyTorch.

    Args:
        options: of the command.
        files: images to compare on.
        source: where they are from, for the report.

    Returns:
        Exit status.
    """
    given = [f"--{name}" for name in _OF_DETECTORS if getattr(options, name, None)]
    if given or options.output.suffix not in (".onnx", ".xml"):
        refused = ", ".join(given) or f"--output {options.output}"
        report("export", f"{refused}: segmenters are exported to .onnx or .xml, as the network")
        return WRONG_CALL
    samples = _samples(options)  # before the export, which is slow
    segmenter, classes = load_segmenter(options.checkpoint)
    _export(segmenter, classes, options)
    exported = load_exported_segmenter(options.output)
    found = compare_segmenters(segmenter, exported, classes, files)
    if samples:
        with counting_up("mIoU:") as progress:
            found["mIoU"] = compare_miou(segmenter, exported, classes, samples, progress)
    limits = LIMITS[exported.precision]
    disagreements = segmenter_disagreements(found, limits)
    path = options.output.with_name(f"{options.output.name}.parity.json")
    write_json(
        path,
        {
            "file": str(options.output),
            "precision": exported.precision,
            "images": {"number": len(files), "from": source},
            "limits": {**limits._asdict(), "mIoU": MIOU_LIMIT},
            **found,
            "disagreements": disagreements,
        },
    )
    _print(found, len(files), source)
    print(f"Report is in {path}")
    for sentence in found.get("mIoU", {}).get("unusable", []):
        report("export", sentence)
    for sentence in disagreements:
        report("export", f"{options.output}: {sentence}")
    return 1 if disagreements or found.get("mIoU", {}).get("unusable") else 0


def _samples(options: argparse.Namespace) -> list[MaskedImage]:
    """Images and masks to compare mIoU on; none without ``--data``."""
    if options.data is None:
        return []
    source = MaskSource(options.data)
    return source.read(validation_split(source))


def _export(segmenter: Segmenter, classes: ClassLabels, options: argparse.Namespace) -> None:
    calibration = None
    if options.calibration:
        inputs = InputTransform(segmenter.config)
        calibration = CalibrationSet(options.calibration, inputs, options.calibration_images)
        print(f"Calibrating on {len(calibration)} images of {options.calibration}")
    bits = options.weight_bits
    export_segmenter(segmenter, classes, options.output, options.precision, calibration, bits)
    print(f"Exported to {options.output}")


def _print(found: dict[str, Any], number: int, source: str) -> None:
    logits = found["logits"]
    print(
        f"Compared with PyTorch on {number} images ({source}):\n"
        f"  {100 * found['agreement']:.3f} % of the pixels get the same class "
        f"({100 * found['least_agreement']:.3f} % in the image with the fewest)\n"
        f"  difference of logits: median {logits['median']:.2g}, 95th percentile "
        f"{logits['p95']:.2g}, largest {logits['largest']:.2g}"
    )
    if "mIoU" in found:
        own = found["mIoU"]
        values = ["-" if own[k] is None else f"{own[k]:.4f}" for k in ("pytorch", "exported")]
        print(f"  mIoU on {own['images']} images: PyTorch {values[0]}, exported {values[1]}")
