"""Tracking on synthetic videos whose truth is known: MOT metrics of predict's options, and cost.

Example:
    python -m research.tracking --checkpoint shapes.safetensors --json tracking.json

Shapes move at constant speed, turn, pass behind one another, and turn back at the border; all but
two enter later. A detector trained on shapes (igcv3det demo) detects every frame once; each row
then runs the tracker on these detections. HOTA, CLEAR and identity metrics are TrackEval's, with
IoU between boxes of the same class. Times are processor times of one thread. The rows "trackers"
are ByteTrack of Roboflow's package of that name, where it is installed: one for all classes, as it
is meant, and one for each class.

Needs TrackEval: pip install --no-deps trackeval. It and trackers ask for opencv-python, which
replaces files of opencv-python-headless.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from igcv3det.cli.arguments import positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.cli.results import write_json
from igcv3det.detection.iou import box_iou
from igcv3det.io.frames import Frame
from igcv3det.io.videos import VideoWriter
from igcv3det.measure.machine import processor_name
from igcv3det.predictor import Predictor
from igcv3det.shapes.dataset import CATEGORIES
from igcv3det.shapes.outlines import Contours, outline, outline_box
from igcv3det.shapes.painting import paint_scene
from igcv3det.structures import Detections
from igcv3det.tracking.frames import SMOOTHING, FrameTracker
from igcv3det.tracking.tracker import LOW_SHARE
from research.record_table import record_table

Image = np.ndarray[Any, np.dtype[np.uint8]]
HEIGHT, WIDTH, FPS = 192, 256, 25.0
OBJECTS, FIRST = 6, 2
MIN_SIDE, MAX_SIDE, MAX_SPEED = 45.0, 110.0, 4.0  # pixels, pixels a frame
THRESHOLD = 0.3
METRICS = ("HOTA", "DetA", "AssA", "MOTA", "IDF1")


class Truth(NamedTuple):
    """Objects of one frame: [N] numbers, [N] category ids, [N, 4] boxes."""

    ids: np.ndarray[Any, Any]
    category_ids: np.ndarray[Any, Any]
    boxes: np.ndarray[Any, Any]


class Video(NamedTuple):
    """Frames with their truth and detections."""

    frames: list[Frame]
    truth: list[Truth]
    found: list[Detections]


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("tracking", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.tracking", __doc__, program="python -m")
    parser.add_argument("--checkpoint", required=True, metavar="MODEL")
    parser.add_argument("--videos", type=positive_int, default=8)
    parser.add_argument("--length", type=positive_int, default=150, help="frames of a video")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--write", type=Path, metavar="FILE.mp4", help="write the first video")
    return parser.parse_args(args)


def _run(options: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    predictor = Predictor.load(options.checkpoint, score_threshold=THRESHOLD * LOW_SHARE)
    videos, milliseconds = [], 0.0
    for number in range(options.videos):
        frames, truth = moving_shapes(options.seed + number, options.length)
        start = time.process_time()
        found = [predictor(frame.image) for frame in frames]
        milliseconds += 1000 * (time.process_time() - start) / len(frames) / options.videos
        videos.append(Video(frames, truth, found))
    if options.write:
        with VideoWriter(options.write, FPS) as writer:
            for frame in videos[0].frames:
                writer.write(frame.image, frame.time)
    _ours(1, None)(videos[0])  # imports
    rows = [_row(name, run, videos, milliseconds / every) for name, every, run in _settings()]
    frames_read = options.videos * options.length
    print(f"{processor_name()}, seed {options.seed}, {frames_read} frames")
    print(record_table(rows))
    if options.json:
        write_json(options.json, rows)
    return 0


def moving_shapes(seed: int, length: int) -> tuple[list[Frame], list[Truth]]:
    """A video of moving shapes."""
    rng = np.random.default_rng(seed)
    names = rng.choice(list(CATEGORIES), OBJECTS)
    sides = MIN_SIDE * (MAX_SIDE / MIN_SIDE) ** rng.random(OBJECTS)
    places = rng.uniform(0.1, 0.9, (OBJECTS, 2)) * (WIDTH, HEIGHT)
    angles, speeds = rng.uniform(0, 2 * np.pi, OBJECTS), rng.uniform(0.5, MAX_SPEED, OBJECTS)
    steps = speeds[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    turns, spins = rng.uniform(-0.5, 0.5, OBJECTS), rng.uniform(-0.01, 0.01, OBJECTS)
    entries = np.sort(rng.integers(1, 2 * length // 3, OBJECTS))
    entries[:FIRST] = 0
    frames, truth = [], []
    for index in range(length):
        present = int((entries <= index).sum())
        at = _reflected(places + index * steps, np.array([WIDTH, HEIGHT]))
        shapes = [
            outline(CATEGORIES[int(names[n])], tuple(at[n]), sides[n], turns[n] + index * spins[n])
            for n in range(present)
        ]
        # The same random numbers for each frame: the same background, colours and textures
        image = paint_scene(np.random.default_rng([seed, 1]), HEIGHT, WIDTH, shapes)
        file = Path(f"video_{seed}.mp4")
        frames.append(Frame(file, image, index, index / FPS, FPS, length))
        truth.append(_truth(names[:present], shapes))
    return frames, truth


def _reflected(places: np.ndarray[Any, Any], size: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Places that turn back at the border of the image."""
    return np.asarray(size - np.abs(places % (2 * size) - size))


def _truth(category_ids: np.ndarray[Any, Any], shapes: Sequence[Contours]) -> Truth:
    boxes = np.array([outline_box(shape, HEIGHT, WIDTH) for shape in shapes])
    return Truth(np.arange(len(shapes)), category_ids, boxes)


Run = Callable[[Video], list[Detections]]


def _settings() -> list[tuple[str, int, Run]]:
    """Rows: name, every how many frames the detector runs, the run."""
    chosen: list[tuple[str, int, float | None]] = [("--track", 1, None)]
    chosen += [(f"--smooth, weight {weight}", 1, weight) for weight in (0.7, 0.5, 0.3, 0.2)]
    chosen += [(f"--every {every}", every, None) for every in (2, 3, 5, 10)]
    chosen += [(f"--every {every} --smooth", every, SMOOTHING) for every in (2, 3, 5)]
    rows = [(name, every, _ours(every, weight)) for name, every, weight in chosen]
    if importlib.util.find_spec("trackers"):
        rows.append(("trackers", 1, _trackers(each_class=False)))
        rows.append(("trackers, one a class", 1, _trackers(each_class=True)))
    return rows


def _ours(every: int, smoothing: float | None) -> Run:
    def run(video: Video) -> list[Detections]:
        found = iter(video.found[::every])
        tracker = FrameTracker(
            lambda image: next(found), THRESHOLD, every=every, smoothing=smoothing
        )
        return [tracker(frame) for frame in video.frames]

    return run


def _trackers(each_class: bool) -> Run:
    """ByteTrack of the package trackers, with the same thresholds."""

    def run(video: Video) -> list[Detections]:
        from trackers import ByteTrackTracker

        labels = range(1, len(CATEGORIES) + 1) if each_class else [0]
        trackers = {
            label: ByteTrackTracker(
                frame_rate=FPS,
                track_activation_threshold=THRESHOLD,
                high_conf_det_threshold=THRESHOLD,
                minimum_iou_threshold=0.2,
            )
            for label in labels
        }
        return [_merged(trackers, detections) for detections in video.found]

    return run


def _merged(trackers: dict[int, Any], detections: Detections) -> Detections:
    """The results of trackers by label, 0 for all labels."""
    rows: list[tuple[list[float], float, int, int]] = []
    for label, tracker in trackers.items():
        own = detections[detections.labels == label] if label else detections
        found = tracker.update(own.to_supervision())
        if not len(found):
            continue
        columns = (found.xyxy, found.confidence, found.class_id, found.tracker_id)
        rows += [
            (box.tolist(), float(score), int(class_id) + 1, 10_000 * label + int(number))
            for box, score, class_id, number in zip(*columns, strict=True)
            if number >= 0
        ]
    boxes, scores, labels, ids = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Detections(
        torch.tensor(boxes).reshape(-1, 4),
        torch.tensor(scores),
        torch.tensor(labels, dtype=torch.int64),
        detections.categories,
        torch.tensor(ids, dtype=torch.int64),
    )


def _row(name: str, run: Run, videos: list[Video], detection_ms: float) -> dict[str, Any]:
    start = time.process_time()
    results = [run(video) for video in videos]
    frames = sum(len(video.frames) for video in videos)
    tracking_ms = 1000 * (time.process_time() - start) / frames
    figures = _metrics([video.truth for video in videos], results)
    return {
        "options": name,
        **figures,
        "detection, ms": detection_ms,
        "tracking, ms": tracking_ms,
    }


def _metrics(truth: list[list[Truth]], results: list[list[Detections]]) -> dict[str, Any]:
    """TrackEval's figures of all videos together."""
    from trackeval.metrics import CLEAR, HOTA, Identity

    sequences = [_sequence(*pair) for pair in zip(truth, results, strict=True)]
    combined: dict[str, Any] = {}
    for metric in (HOTA(), CLEAR({"PRINT_CONFIG": False}), Identity({"PRINT_CONFIG": False})):
        one = {str(n): metric.eval_sequence(data) for n, data in enumerate(sequences)}
        combined |= metric.combine_sequences(one)
    figures: dict[str, Any] = {name: float(np.mean(combined[name])) for name in METRICS}
    names = {"switches": "IDSW", "fragments": "Frag", "missed": "CLR_FN", "false": "CLR_FP"}
    return figures | {name: int(combined[key]) for name, key in names.items()}


def _sequence(truth: list[Truth], found: list[Detections]) -> dict[str, Any]:
    """What TrackEval's metrics take."""
    numbers = sorted({i for one in found if one.ids is not None for i in one.ids.tolist()})
    places = {number: place for place, number in enumerate(numbers)}
    tracker_ids, similarity = [], []
    for frame, one in zip(truth, found, strict=True):
        assert one.ids is not None
        tracker_ids.append(np.array([places[i] for i in one.ids.tolist()], np.int64))
        iou = box_iou(frame.boxes.astype(np.float32), one.boxes.numpy())
        iou[frame.category_ids[:, None] != np.array(one.category_ids, np.int64)] = 0
        similarity.append(iou)
    return {
        "num_timesteps": len(truth),
        "num_gt_ids": OBJECTS,
        "num_tracker_ids": len(numbers),
        "num_gt_dets": sum(len(frame.ids) for frame in truth),
        "num_tracker_dets": sum(map(len, found)),
        "gt_ids": [frame.ids for frame in truth],
        "tracker_ids": tracker_ids,
        "similarity_scores": similarity,
    }


if __name__ == "__main__":
    raise SystemExit(main())
