"""Detects objects in images and videos, draws them and writes them to files.

Examples:
    igcv3det predict street.jpg --checkpoint best.ckpt --output drawn
    igcv3det predict photos "holiday/**/*.jpg" drive.mp4 --checkpoint best.ckpt --json out.json

SOURCE is an image, a folder (its images and videos, without subfolders), a glob pattern or a
video. Annotated images go to --output; without it they go to runs/infer, or nowhere if --json or
--csv is given.

The JSON file is a list of one record an image or frame:
    {"file", "width", "height", "detections": [{"label", "category_id", "score", "box"}]}
with box [x0, y0, x1, y1] in pixels; frames of a video also have "frame" and "time" (seconds); a
file that could not be read is {"file", "error"}.

No source is written over: a drawing whose name is taken gets a number.

Exit status: 0 all done, 1 something could not be read or written, 2 wrong call.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.arguments import confidence
from igcv3det.cli.command import command_parser, report, run_command
from igcv3det.cli.results import refuse_overwriting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from igcv3det.io.sources import Sources
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
    options.sources = _find_sources(options, parser)
    return options


def _find_sources(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Sources:
    """The files of the run; results that would be written over one of them are a wrong call."""
    # OpenCV and FFmpeg would report a broken file on standard error besides our own line
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    from igcv3det.io.sources import find_sources

    sources = find_sources(options.source)
    refuse_overwriting(parser, options, [*sources.paths, options.checkpoint], ["json", "csv"])
    if options.output and options.output.exists() and not options.output.is_dir():
        parser.error(f"argument --output: {options.output} is not a folder")
    return sources


def _run(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import preview_notice
    from igcv3det.predictor import Predictor
    from igcv3det.pretrained import DEFAULT

    for notice in options.sources.notices:
        report("predict", notice)
    if options.checkpoint is None and (notice := preview_notice(DEFAULT)):
        report("predict", notice)
    predictor = Predictor.load(
        options.checkpoint, options.device, score_threshold=options.threshold
    )
    return _predict(predictor, options)


def _predict(predictor: Predictor, options: argparse.Namespace) -> int:
    from igcv3det.io.drawing import draw_detections
    from igcv3det.io.drawing_folder import DrawingFolder
    from igcv3det.io.frames import UnreadableSource
    from igcv3det.io.records import RecordWriter, error_record, frame_record
    from igcv3det.io.sources import read_sources

    results = [path for path in (options.output, options.json, options.csv) if path]
    protected = [*options.sources.paths, *results]
    images = objects = 0
    failures = _Failures()
    with contextlib.ExitStack() as stack:
        records = stack.enter_context(RecordWriter(options.json, options.csv))
        folder = options.output and stack.enter_context(DrawingFolder(options.output, protected))
        for item in read_sources(options.sources.files):
            if isinstance(item, UnreadableSource):
                failures.add(item.reason)
                records.write(error_record(item))
                continue
            detections = predictor(item.image)
            records.write(frame_record(item, detections))
            if folder:
                with failures.caught():
                    folder.write(item, draw_detections(item.image, detections))
            if item.index is None:
                _print(f"{item.file}: {_listed(detections.names)}")
            images += 1
            objects += len(detections)
    places = ", ".join(map(str, results))
    _print(f"objects: {objects}, images: {images}{failures.summary}; results in {places}")
    return 1 if failures.reasons else 0


class _Failures:
    """Reports each failure once: a video that cannot be written fails at each of its frames."""

    def __init__(self) -> None:
        self.reasons: set[str] = set()

    def add(self, reason: str) -> None:
        if reason not in self.reasons:
            self.reasons.add(reason)
            report("predict", reason)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """One file that cannot be written does not end the run."""
        try:
            yield
        except OSError as error:
            self.add(str(error))

    @property
    def summary(self) -> str:
        return f"; {len(self.reasons)} could not be read or written" if self.reasons else ""


def _print(line: str) -> None:
    """Prints a line; the run continues when the reader of standard output has gone."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _listed(names: list[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).items()) or "nothing"
