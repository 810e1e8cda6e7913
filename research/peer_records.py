"""Detections of another project's detector, in the JSON format of ``tools/infer.py --json``.

Usage:
    python -m research.peer_records yolox_nano.onnx IMAGES --json FILE [--threshold 0.05]

The output is an input of ``tools/fuse_boxes.py``; `research.peer_models` has the supported files.
Exit status: 0 done, 1 could not be done.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from igcv3det.cli.command import DONE, FAILED, command_parser, report, run_command
from igcv3det.io.frames import UnreadableSource
from igcv3det.io.records import RecordWriter, error_record, frame_record
from igcv3det.io.sources import find_sources, read_sources
from research.peer_models import PEERS
from research.peers import peer_target


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("peer_records", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.peer_records", __doc__, program="python -m")
    parser.add_argument("file", type=Path, help=", ".join(peer.file for peer in PEERS))
    parser.add_argument("source", nargs="+", help="image, folder or glob")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--threshold", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(args)
    options.peer = next((peer for peer in PEERS if peer.file == options.file.name), None)
    if options.peer is None:
        parser.error(f"{options.file.name}: not one of {', '.join(peer.file for peer in PEERS)}")
    return options


def _run(options: argparse.Namespace) -> int:
    detector = peer_target(options.peer, options.file, options.threads).detector
    failures = 0
    with RecordWriter(options.json) as records:
        for item in read_sources(find_sources(options.source).files):
            if isinstance(item, UnreadableSource):
                report("peer_records", item.reason)
                records.write(error_record(item))
                failures += 1
                continue
            inputs = [detector.preprocess(item.image)]
            (found,) = detector.detect(inputs, [item.image.shape[:2]])
            records.write(frame_record(item, found.above(options.threshold)))
    return FAILED if failures else DONE


if __name__ == "__main__":
    sys.exit(main())
