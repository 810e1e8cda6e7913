r"""Checks a COCO data set and reports its contents: counts, sizes, anchor coverage, issues.

Example:
    igcv3det check-data --annotations data/coco/annotations/instances_val2017.json \
        --images data/coco/val2017 --json report.json

Every image is opened. Issues are listed on standard error; training drops these images and boxes,
or refuses the file with ``data.strict``. Coverage is that of the anchors of --config, else of the
default detector. Exit status: 0 checked, 1 could not or (with --strict) there are issues, 2 wrong
call.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from igcv3det.cli.command import command_parser, run_command
from igcv3det.config_files import find_config

SHOWN = 20


def main(args: list[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    return run_command("check-data", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("check-data", __doc__)
    add = parser.add_argument
    add("--annotations", type=Path, required=True, metavar="JSON", help="COCO annotation file")
    add("--images", type=Path, required=True, metavar="DIR", help="folder of its images")
    add("--config", type=Path, metavar="FILE", help="configuration of the detector (for anchors)")
    add("--json", type=Path, metavar="FILE", help="write the report with all issues to this file")
    add("--strict", action="store_true", help="exit with status 1 if there are issues")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import read_config
    from igcv3det.config import DetectorConfig
    from igcv3det.datasets.checks import load_annotations
    from igcv3det.datasets.image_files import unreadable_images
    from igcv3det.datasets.report import build_report, report_lines
    from igcv3det.detector import build_detector

    config = read_config(find_config(options.config)) if options.config else DetectorConfig()
    checked = load_annotations(options.annotations, options.images)
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
