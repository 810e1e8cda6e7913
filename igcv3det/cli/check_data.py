r"""Checks a data set and reports its contents: counts, sizes, anchor coverage, issues.

Examples:
    igcv3det check-data --data data/mine
    igcv3det check-data --annotations data/coco/annotations/instances_val2017.json \
        --images data/coco/val2017 --json report.json

Every image is opened. Issues are listed on standard error; training drops these images and boxes,
or refuses the file with ``data.strict``. Coverage is that of the anchors of --config, else of the
default detector. Exit status: 0 checked, 1 the data set could not be
read, it has nothing to train on, or (with --strict) there are issues, 2 wrong call.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.data_options import add_data_options, read_data, require_data
from igcv3det.cli.progress import counting
from igcv3det.cli.results import refuse_overwriting, write_json
from igcv3det.config_files import find_config

SHOWN = 20


def main(args: list[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    return run_command("check-data", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("check-data", __doc__)
    add = parser.add_argument
    add_data_options(parser, "all")
    add("--config", type=Path, metavar="FILE", help="configuration of the detector (for anchors)")
    add("--json", type=Path, metavar="FILE", help="write the report with all issues to this file")
    add("--strict", action="store_true", help="exit with status 1 if there are issues")
    add("--allow-outside", action="store_true", help="allow file names outside the folder")
    options = parser.parse_args(args)
    require_data(parser, options)
    refuse_overwriting(parser, options, [options.annotations, options.config], ["json"])
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import read_config
    from igcv3det.config import DetectorConfig
    from igcv3det.datasets.checks import check_record, require_content
    from igcv3det.datasets.image_files import check_images
    from igcv3det.datasets.report import build_report, report_lines
    from igcv3det.detector import build_detector

    config = read_config(find_config(options.config)) if options.config else DetectorConfig()
    record, images = read_data(options)
    checked = check_record(record, images, allow_outside=options.allow_outside)
    store, issues = checked
    with counting("images", len(store)) as progress:
        issues += check_images(store, images, str(record.path), progress)
    report = build_report(store, issues, build_detector(config).anchors, config.image_size)
    print("\n".join(report_lines(report)))
    for issue in issues[:SHOWN]:
        print(issue, file=sys.stderr)
    if len(issues) > SHOWN:
        print(f"... and {len(issues) - SHOWN} more (all are in --json)", file=sys.stderr)
    if options.config and config.num_classes != len(store.categories):
        print(
            f"{options.config}: model.detector.num_classes is {config.num_classes}, but "
            f"{record.path} has {len(store.categories)} categories",
            file=sys.stderr,
        )
    if options.json:
        write_json(options.json, report.as_dict())
        print(options.json)
    require_content(checked, record.path)
    return 1 if options.strict and issues else 0
