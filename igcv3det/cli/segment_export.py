"""``igcv3det export`` of a segmenter: the file and its parity report."""

from __future__ import annotations

import argparse
from pathlib import Path

from igcv3det.cli.command import WRONG_CALL, report
from igcv3det.cli.results import write_json
from igcv3det.tasks.segment.checkpoint import load_segmenter
from igcv3det.tasks.segment.exported import export_segmenter, load_exported_segmenter
from igcv3det.tasks.segment.parity import (
    AGREEMENT_LIMIT,
    LOGIT_LIMIT,
    compare_segmenters,
    segmenter_disagreements,
)

_OF_DETECTORS = ("nms", "preprocess", "calibration", "annotations")


def export_segments(options: argparse.Namespace, files: list[Path], source: str) -> int:
    """Exports a segmenter in float32 and compares the file with PyTorch.

    Args:
        options: of the command.
        files: images to compare on.
        source: where they are from, for the report.

    Returns:
        Exit status.
    """
    given = [f"--{name}" for name in _OF_DETECTORS if getattr(options, name, None)]
    given += [f"--precision {options.precision}"] if options.precision != "fp32" else []
    if given or options.output.suffix not in (".onnx", ".xml"):
        refused = ", ".join(given) or f"--output {options.output}"
        report("export", f"{refused}: segmenters are exported in fp32, to .onnx or .xml")
        return WRONG_CALL
    segmenter, classes = load_segmenter(options.checkpoint)
    export_segmenter(segmenter, classes, options.output)
    print(f"Exported to {options.output}")
    exported = load_exported_segmenter(options.output)
    found = compare_segmenters(segmenter, exported, classes, files)
    disagreements = segmenter_disagreements(found)
    path = options.output.with_name(f"{options.output.name}.parity.json")
    limits = {"agreement": AGREEMENT_LIMIT, "logits_p95": LOGIT_LIMIT}
    images = {"number": len(files), "from": source}
    write_json(
        path,
        {
            "file": str(options.output),
            "images": images,
            "limits": limits,
            **found,
            "disagreements": disagreements,
        },
    )
    logits = found["logits"]
    print(
        f"Compared with PyTorch on {len(files)} images ({source}):\n"
        f"  {100 * found['agreement']:.3f} % of the pixels get the same class "
        f"({100 * found['least_agreement']:.3f} % in the image with the fewest)\n"
        f"  difference of logits: median {logits['median']:.2g}, 95th percentile "
        f"{logits['p95']:.2g}, largest {logits['largest']:.2g}\n"
        f"Report is in {path}"
    )
    for sentence in disagreements:
        report("export", f"{options.output}: {sentence}")
    return 1 if disagreements else 0
