"""``igcv3det predict`` with a detector: boxes, tracked if asked for."""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Callable
from functools import partial

from igcv3det.cli.source_run import Prediction, SourceRun
from igcv3det.io.drawing import draw_detections
from igcv3det.io.frames import Frame
from igcv3det.io.records import frame_record
from igcv3det.predictor import Predictor
from igcv3det.structures import Detections
from igcv3det.tracking.frames import SMOOTHING, FrameTracker


def predict_sources(predictor: Predictor, options: argparse.Namespace) -> int:
    """Detects the objects of all sources of the options and writes the results.

    Returns:
        Exit status.
    """
    with contextlib.ExitStack() as stack:
        return _Run(predictor, options, stack).finish(stack)


class _Run(SourceRun):
    def __init__(
        self, predictor: Predictor, options: argparse.Namespace, stack: contextlib.ExitStack
    ) -> None:
        self._detect = _detection(predictor, options)
        self._objects = 0
        results = [options.json, options.csv]
        super().__init__(options, stack, results, options.csv, is_sequence=options.track)

    def predict(self, frame: Frame) -> Prediction:
        found = self._detect(frame)
        self._objects += len(found)
        draw = partial(draw_detections, frame.image, found)
        return Prediction(frame_record(frame, found), draw, _listed(found.names))

    @property
    def counts(self) -> str:
        return f"objects: {self._objects}, {super().counts}"


def _detection(predictor: Predictor, options: argparse.Namespace) -> Callable[[Frame], Detections]:
    """Detection in one frame after the other, tracked if the options say so."""
    choice = {} if options.classes is None else {"classes": options.classes}
    detect = partial(predictor, **choice)
    if not options.track:
        return lambda frame: detect(frame.image)
    return FrameTracker(
        detect,
        options.threshold,
        every=options.every or 1,
        smoothing=SMOOTHING if options.smooth else None,
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).items()) or "nothing"
