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

from igcv3det.io.frames import UnreadableSource
from igcv3det.io.records import RecordWriter, error_record, frame_record
from igcv3det.io.sources import find_sources, read_sources
from research.peer_models import PEERS
from research.peers import peer_target


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help=", ".join(peer.file for peer in PEERS))
    parser.add_argument("source", nargs="+", help="image, folder or glob")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--threshold", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(args)
    peer = next((peer for peer in PEERS if peer.file == options.file.name), None)
    if peer is None:
        parser.error(f"{options.file.name}: not one of {', '.join(peer.file for peer in PEERS)}")
    failures = 0
    try:
        detector = peer_target(peer, options.file, options.threads).detector
        with RecordWriter(options.json) as records:
            for item in read_sources(find_sources(options.source).files):
                if isinstance(item, UnreadableSource):
                    print(f"peer_records: {item.reason}", file=sys.stderr)
                    records.write(error_record(item))
                    failures += 1
                    continue
                inputs = [detector.preprocess(item.image)]
                (found,) = detector.detect(inputs, [item.image.shape[:2]])
                records.write(frame_record(item, found.above(options.threshold)))
    except (OSError, ValueError) as error:
        print(f"peer_records: {error}", file=sys.stderr)
        return 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
