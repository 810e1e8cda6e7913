"""Finds objects in images and videos, draws them and writes them down.

Usage:
    python tools/infer.py SOURCE... [--checkpoint MODEL] [--output DIR] [--threshold 0.3]
                          [--json FILE] [--csv FILE] [--device cpu]

Examples:
    python tools/infer.py street.jpg --checkpoint best.ckpt --output drawn
    python tools/infer.py photos "holiday/**/*.jpg" drive.mp4 --checkpoint best.ckpt --json out.json

SOURCE is an image, a folder (its images and videos by their endings, not those of inner
folders), a pattern or a video. Drawn images go to --output; without it they go to runs/infer, or
nowhere if only --json or --csv is asked for.

The JSON file is a list of one record an image or frame:
    {"file", "width", "height", "detections": [{"label", "category_id", "score", "box"}]}
with box [x0, y0, x1, y1] in pixels; frames of a video have "frame" and "time" (seconds) besides;
what could not be read is {"file", "error"}.

Exit status: 0 all done, 1 something could not be read or written, 2 wrong call.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter
from pathlib import Path

from igcv3det.checkpoint import preview_notice
from igcv3det.io.drawing import draw_detections
from igcv3det.io.drawing_folder import DrawingFolder
from igcv3det.io.records import RecordWriter, error_record, frame_record
from igcv3det.io.sources import UnreadableSource, read_sources
from igcv3det.predictor import Predictor
from igcv3det.pretrained import DEFAULT

DEFAULT_OUTPUT = Path("runs/infer")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parse(args)
    # FFmpeg reports on standard error beside our own line about a broken video
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        if options.checkpoint is None and (notice := preview_notice(DEFAULT)):
            print(f"infer: {notice}", file=sys.stderr)
        predictor = Predictor.load(
            options.checkpoint, options.device, score_threshold=options.threshold
        )
        return _run(predictor, options)
    except (OSError, ValueError, ImportError) as error:
        print(f"infer: {error}", file=sys.stderr)
        return 1


def _parse(args: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="+", metavar="SOURCE", help="image, folder, glob or video")
    parser.add_argument("--checkpoint", metavar="MODEL", help="default: the released weights")
    parser.add_argument("--output", type=Path, metavar="DIR", help="for drawn images")
    parser.add_argument("--threshold", type=_score, default=0.3, help="least score (default 0.3)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--csv", type=Path, metavar="FILE")
    parser.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    options = parser.parse_args(args)
    if not (options.output or options.json or options.csv):
        options.output = DEFAULT_OUTPUT
    return options


def _run(predictor: Predictor, options: argparse.Namespace) -> int:
    images = objects = failures = 0
    with contextlib.ExitStack() as stack:
        records = stack.enter_context(RecordWriter(options.json, options.csv))
        folder = stack.enter_context(DrawingFolder(options.output)) if options.output else None
        for item in read_sources(options.source):
            if isinstance(item, UnreadableSource):
                print(f"infer: {item.reason}", file=sys.stderr)
                records.write(error_record(item))
                failures += 1
                continue
            found = predictor(item.image)
            records.write(frame_record(item, found))
            if folder:
                folder.write(item, draw_detections(item.image, found))
            if item.index is None:
                print(f"{item.file}: {_listed(found.names)}")
            images += 1
            objects += len(found)
    places = [str(place) for place in (options.output, options.json, options.csv) if place]
    unread = f"; {failures} could not be read" if failures else ""
    print(f"{objects} objects in {images} images{unread}; results in {', '.join(places)}")
    return 1 if failures else 0


def _listed(names: list[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).items()) or "nothing"


def _score(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be in [0, 1), got {text}")
    return value
