"""Checks a COCO data set and reports what is in it: counts, sizes, anchor coverage and faults.

Every image is opened. Issues are listed on stderr; training would drop these images and boxes, or
refuse the file with ``data.strict``. Anchors are those of --config, else of the default detector.

    python tools/check_data.py --annotations data/coco/annotations/instances_val2017.json \
        --images data/coco/val2017 --json report.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from igcv3det.checkpoint import read_config
from igcv3det.config import DetectorConfig
from igcv3det.datasets.checks import load_annotations
from igcv3det.datasets.image_files import unreadable_images
from igcv3det.datasets.report import build_report, report_lines
from igcv3det.detector import build_detector

SHOWN = 20


def main(args: list[str] | None = None) -> int:
    """Prints the report; 0 if it could be made (with --strict: and there are no faults), else 1."""
    options = _parser().parse_args(args)
    try:
        config = read_config(options.config) if options.config else DetectorConfig()
        checked = load_annotations(options.annotations, options.images)
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    store = checked.store
    faults = checked.faults + unreadable_images(store, options.images, str(options.annotations))
    report = build_report(store, faults, build_detector(config).anchors, config.image_size)
    print("\n".join(report_lines(report)))
    for fault in faults[:SHOWN]:
        print(fault, file=sys.stderr)
    if len(faults) > SHOWN:
        print(f"... and {len(faults) - SHOWN} more (all are in --json)", file=sys.stderr)
    if options.config and config.num_classes != len(store.categories):
        print(
            f"{options.config}: model.detector.num_classes is {config.num_classes}, but "
            f"{options.annotations} has {len(store.categories)} categories",
            file=sys.stderr,
        )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report.as_dict(), indent=1), encoding="utf-8")
        print(options.json)
    return 1 if options.strict and faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--annotations", type=Path, required=True, help="COCO annotation file")
    add("--images", type=Path, required=True, help="folder of its images")
    add("--config", type=Path, help="YAML configuration of the detector whose anchors count")
    add("--json", type=Path, help="write the report, with all faults, to this file")
    add("--strict", action="store_true", help="exit with status 1 if there are faults")
    return parser
