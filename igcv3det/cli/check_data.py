r"""Checks a data set and reports its contents: counts, sizes, anchor coverage, issues, findings.

Examples:
    igcv3det check-data --data data/mine
    igcv3det check-data --annotations data/coco/annotations/instances_val2017.json \
        --images data/coco/val2017 --json report.json

Every image is opened. Issues are listed on standard error; training drops these images and boxes,
or refuses the file with ``data.strict``. Coverage is that of the anchors of --config, else of the
weights that ``train DATA`` starts from. Findings (near-duplicate images within and across splits,
rare classes, boxes that are wrong all in the same way) and recommendations for training drop
nothing.

Exit status: 0 checked, 1 the data set could not be read, it has nothing to train on, or (with
--strict) there are issues, 2 wrong call.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.data_options import (
    add_data_options,
    print_issues,
    read_splits,
    require_data,
)
from igcv3det.cli.progress import counting
from igcv3det.cli.results import refuse_overwriting, write_json
from igcv3det.config_files import find_config

if TYPE_CHECKING:
    from igcv3det.config import DetectorConfig
    from igcv3det.datasets.record import AnnotationRecord


def main(args: list[str] | None = None) -> int:
    """Prints the report; returns the exit status."""
    return run_command("check-data", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("check-data", __doc__)
    add = parser.add_argument
    add_data_options(parser, "all")
    add(
        "--config",
        type=Path,
        metavar="FILE",
        help="configuration or weights of the detector (for anchors)",
    )
    add("--json", type=Path, metavar="FILE", help="write the report with all issues to this file")
    add("--strict", action="store_true", help="exit with status 1 if there are issues")
    add("--allow-outside", action="store_true", help="allow file names outside the folder")
    options = parser.parse_args(args)
    require_data(parser, options)
    refuse_overwriting(parser, options, [options.annotations, options.config], ["json"])
    return options


def _run(options: argparse.Namespace) -> int:
    from igcv3det.datasets.checks import check_record, require_content
    from igcv3det.datasets.findings import find_oddities
    from igcv3det.datasets.image_files import check_images
    from igcv3det.datasets.near_duplicates import HashTable
    from igcv3det.datasets.report import build_report, report_lines
    from igcv3det.detector import build_detector
    from igcv3det.tasks.detect.recommendations import recommend

    config = _detector_config(options.config)
    (record, images), splits = read_splits(options)
    store, issues = checked = check_record(record, images, allow_outside=options.allow_outside)
    hashes = HashTable(len(store))
    with counting("images", len(store)) as progress:
        issues += check_images(store, images, str(record.path), progress, hashes.add)
    report = build_report(store, issues, build_detector(config).anchors, config.image_size)
    split_of = dict(zip(record.images.ids.tolist(), splits, strict=False))
    used = [split_of[number] for number in store.images.ids.tolist()] if splits else []
    findings = find_oddities(record, store, hashes, used)
    advice = list(recommend(store, config))
    lines = [f"{'images in':<18}{images}", *report_lines(report), *_titled("findings", findings)]
    print("\n".join(lines))
    print("\n".join(_titled("recommendations", [f"{name}: {detail}" for name, detail in advice])))
    print_issues(issues, " (all are in --json)")
    if options.config and not _is_weights(options.config):  # these are trained on any classes
        _compare_classes(options.config, config.num_classes, record)
    if options.json:
        more = {
            "findings": [dataclasses.asdict(finding) for finding in findings],
            "recommendations": [item._asdict() for item in advice],
        }
        write_json(options.json, report.as_dict() | more)
        print(options.json)
    require_content(checked, record.path)
    return 1 if options.strict and issues else 0


def _detector_config(path: Path | None) -> DetectorConfig:
    """That of a configuration or of weights, else of those which ``train DATA`` starts from."""
    from igcv3det.checkpoint import read_config, read_trained_config
    from igcv3det.pretrained import FINE_TUNING

    if path is None or _is_weights(path):
        return read_trained_config(path or FINE_TUNING)[0]
    return read_config(find_config(path))


def _is_weights(path: Path) -> bool:
    from igcv3det.pretrained import ALIASES, PRETRAINED, SUFFIXES_OF_WEIGHTS

    return str(path) in {*PRETRAINED, *ALIASES} or path.suffix in SUFFIXES_OF_WEIGHTS


def _compare_classes(path: Path, expected: int, record: AnnotationRecord) -> None:
    """Reports a configuration of another number of classes than the annotations have."""
    from igcv3det.datasets.subsets import used_categories
    from igcv3det.engine.arguments import given_values

    values = given_values(["--config", str(find_config(path))], {})
    drops = values.get("data.drop_empty_classes", False)
    found = used_categories([record]) if drops else record.categories
    if len(found) != expected:
        kind = "categories with a box" if drops else "categories"
        print(
            f"{path}: model.detector.num_classes is {expected}, but "
            f"{record.path} has {len(found)} {kind}",
            file=sys.stderr,
        )


def _titled(title: str, items: Sequence[object]) -> list[str]:
    return [f"{title:<18}{len(items)}", *(f"  {item}" for item in items)]
