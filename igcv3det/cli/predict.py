"""Detects objects in images and videos, draws them and writes them to files.

Examples:
    igcv3det predict street.jpg --checkpoint best.ckpt --output drawn
    igcv3det predict photos "holiday/**/*.jpg" drive.mp4 --checkpoint best.ckpt --json out.json
    igcv3det predict 0 --classes person,dog --show
    igcv3det predict rtsp://camera.local/1 --csv found.csv
    igcv3det predict aerial --tile 640
    igcv3det predict drive.mp4 --track --every 3 --json tracks.json
    igcv3det predict drive.mp4 --checkpoint segmenter.safetensors --output drawn --masks masks

SOURCE is an image, a folder (its images and videos, without hidden files and subfolders), a glob
pattern, a video, the index of a camera (0), or a URL of an image, a video or a stream (http, rtsp,
rtmp, udp, tcp).
Annotated images go to --output; without it they go to runs/infer, or nowhere if --json, --csv or
--show is given.

The JSON file is a list of one record an image or frame:
    {"file", "width", "height", "detections": [{"label", "category_id", "score", "box"}]}
with box [x0, y0, x1, y1] in pixels; frames of a video also have "frame" and "time" (seconds), and
tracked detections "id"; a file that could not be read is {"file", "error"}. With --json or --csv
/dev/stdout the lines of the images go to standard error.

A segmenter colours the pixels by class, and writes them as PNG masks to --masks; its records have
"classes": [{"label", "share"}] in place of "detections" (docs/segmentation.md).

A stream that drops is connected again, up to 5 times in a row. Ctrl-C ends a run with its files
complete. No source is written over: a drawing whose name is taken gets a number.

Exit status: 0 all done, 1 something could not be read or written, 2 wrong call, 130 interrupted,
143 ended by SIGTERM, which completes the files as Ctrl-C does.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from igcv3det.cli.arguments import confidence, positive_int, share, whole_number_from, words
from igcv3det.cli.command import (
    WRONG_CALL,
    command_parser,
    report,
    run_command,
    sigterm_interrupts,
)
from igcv3det.cli.results import refuse_folder, refuse_overwriting

if TYPE_CHECKING:
    from igcv3det.io.sources import Sources

DEFAULT_OUTPUT = Path("runs/infer")
DEFAULT_THRESHOLD = 0.3
MIN_TILE = 16  # detection.tiles.MIN_SIZE, whose module imports torch


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("predict", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("predict", __doc__)
    add = parser.add_argument
    add("source", nargs="+", metavar="SOURCE", help="image, folder, pattern, video, camera or URL")
    add("--checkpoint", metavar="MODEL", help="detector (default: the pretrained mobilenetv2)")
    add("--output", type=Path, metavar="DIR", help="folder for annotated images and videos")
    add("--masks", type=Path, metavar="DIR", help="segmenters: folder for PNG masks")
    add("--json", type=Path, metavar="FILE", help="write the detections as JSON")
    add("--csv", type=Path, metavar="FILE", help="write the detections as a table")
    add("--show", action="store_true", help="show annotated images in a window; q closes it")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1, auto, ...")
    _add_detection_options(parser)
    _add_tracking_options(parser)
    options = parser.parse_args(args)
    if not any((options.output, options.masks, options.json, options.csv, options.show)):
        options.output = DEFAULT_OUTPUT
    options.track |= options.smooth or options.every is not None
    options.sources = _find_sources(options, parser)
    if options.track and (image := _single_image(options.sources)):
        parser.error(f"argument --track: {image} is one image; give a video or a folder of frames")
    if options.track and options.threshold == 0:
        parser.error("argument --threshold: must be > 0 with --track")
    return options


def _add_detection_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--threshold",
        type=confidence,
        metavar="SCORE",
        help="confidence threshold (default: 0.3)",
    )
    add(
        "--classes",
        type=words,
        metavar="A,B",
        help="names or category ids of the classes to detect (default: all)",
    )
    add(
        "--iou",
        type=share,
        metavar="IOU",
        help="IoU above which NMS drops a box of the same class (default: the detector's)",
    )
    add(
        "--tile",
        type=whole_number_from(MIN_TILE),
        metavar="SIZE",
        help="detect large images in overlapping tiles of SIZE pixels too, for small objects",
    )


def _add_tracking_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--track", action="store_true", help="follow objects through frames: an id a detection")
    add("--smooth", action="store_true", help="smooth scores along tracks (implies --track)")
    add(
        "--every",
        type=positive_int,
        metavar="N",
        help="detect in every N-th frame and move tracks in between (implies --track)",
    )


def _lost_in_videos(options: argparse.Namespace) -> list[str]:
    """What the drawn videos of this run lose without PyAV."""
    from igcv3det.io.av_videos import has_pyav
    from igcv3det.io.sources import is_video

    videos = [path for path in options.sources.paths if is_video(path)]
    if not options.output or not videos or has_pyav():
        return []
    lost = "drawn videos lose their sound and have a constant frame rate"
    return [f"{lost}; pip install 'igcv3det[video]' keeps both"]


def _single_image(sources: Sources) -> Path | None:
    """The image, if it is all there is."""
    from igcv3det.io.sources import is_video

    first, *more = sources.files
    return first if isinstance(first, Path) and not is_video(first) and not more else None


def _find_sources(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Sources:
    """The files of the run; results that would be written over one of them are a wrong call."""
    from igcv3det.io.file_set import FileSet
    from igcv3det.io.sources import find_sources

    sources = find_sources(options.source, numbered=options.track)
    refuse_overwriting(parser, options, [*sources.paths, options.checkpoint], ["json", "csv"])
    for option, folder in (("--output", options.output), ("--masks", options.masks)):
        if folder:
            refuse_folder(parser, option, folder)
    if options.output and options.masks and options.masks in FileSet([options.output]):
        parser.error("argument --masks: is the folder of --output, whose drawings have these names")
    return sources


def _run(options: argparse.Namespace) -> int:
    with sigterm_interrupts():
        return _predict(options)


def _predict(options: argparse.Namespace) -> int:
    from igcv3det.checkpoint import preview_notice
    from igcv3det.cli.prediction import predict_sources
    from igcv3det.predictor import Predictor
    from igcv3det.pretrained import DEFAULT
    from igcv3det.tasks.segment.checkpoint import is_segmenter
    from igcv3det.tracking.tracker import LOW_SHARE

    for notice in [*options.sources.notices, *_lost_in_videos(options)]:
        report("predict", notice)
    if is_segmenter(options.checkpoint):
        from igcv3det.cli.segment_predict import predict_segments

        return predict_segments(options)
    if options.masks:
        report("predict", "--masks: for segmenters")
        return WRONG_CALL
    if options.threshold is None:
        options.threshold = DEFAULT_THRESHOLD
    if options.checkpoint is None and (notice := preview_notice(DEFAULT)):
        report("predict", notice)
    predictor = Predictor.load(
        options.checkpoint,
        options.device,
        score_threshold=options.threshold * (LOW_SHARE if options.track else 1),
        iou_threshold=options.iou,
        tile=options.tile,
    )
    if options.classes is not None:
        try:
            predictor.categories.labels_of(options.classes)
        except ValueError as error:
            report("predict", f"argument --classes: {error}")
            return WRONG_CALL
    return predict_sources(predictor, options)
