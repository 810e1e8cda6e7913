"""Detects objects in images and videos, draws them and writes them to files.

Examples:
    igcv3det predict street.jpg --checkpoint best.ckpt --output drawn
    igcv3det predict photos "holiday/**/*.jpg" drive.mp4 --checkpoint best.ckpt --json out.json

SOURCE is an image, a folder (its images and videos, without subfolders), a glob pattern or a
video. Annotated images go to --output; without it they go to runs/infer, or nowhere if --json or
--csv is given.

The JSON file is a list of one record an image or frame:
    {"file", "width", "height", "detections": [{"label", "category_id", "score", "box"}]}
with box [x0, y0, x1, y1] in pixels; frames of a video also have "frame" and "time" (seconds); an
image that could not be read is {"file", "error"}.

Exit status: 0 all done, 1 something could not be read or written, 2 wrong call.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.arguments import confidence
from igcv3det.cli.command import command_parser, report, run_command

if TYPE_CHECKING:
    from igcv3det.predictor import Predictor

DEFAULT_OUTPUT = Path("runs/infer")


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("predict", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("predict", __doc__)
    add = parser.add_argument
    add("source", nargs="+", metavar="SOURCE", help="image, folder, glob pattern or video")
    add("--checkpoint", metavar="MODEL", help="detector (default: the pretrained igcv3-d)")
    add("--output", type=Path, metavar="DIR", help="folder for annotated images and videos")
    add(
        "--threshold",
        type=confidence,
        default=0.3,
        metavar="SCORE",
        help="confidence threshold (default: 0.3)",
    )
    add("--json", type=Path, metavar="FILE", help="write the detections as JSON")
    add("--csv", type=Path, metavar="FILE", help="write the detections as a table")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    options = parser.parse_args(args)
    if not (options.output or options.json or options.csv):
        options.output = DEFAULT_OUTPUT
    return options


def _run(options: argparse.Namespace) -> int:
    # FFmpeg would report a broken video on standard error besides our own line
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from igcv3det.checkpoint import preview_notice
    from igcv3det.predictor import Predictor
    from igcv3det.pretrained import DEFAULT

    if options.checkpoint is None and (notice := preview_notice(DEFAULT)):
        report("predict", notice)
    predictor = Predictor.load(
        options.checkpoint, options.device, score_threshold=options.threshold
    )
    return _predict(predictor, options)


def _predict(predictor: Predictor, options: argparse.Namespace) -> int:
    from igcv3det.io.drawing import draw_detections
    from igcv3det.io.drawing_folder import DrawingFolder
    from igcv3det.io.records import RecordWriter, error_record, frame_record
    from igcv3det.io.sources import UnreadableSource, read_sources

    images = objects = failures = 0
    with contextlib.ExitStack() as stack:
        records = stack.enter_context(RecordWriter(options.json, options.csv))
        folder = stack.enter_context(DrawingFolder(options.output)) if options.output else None
        for item in read_sources(options.source):
            if isinstance(item, UnreadableSource):
                report("predict", item.reason)
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
