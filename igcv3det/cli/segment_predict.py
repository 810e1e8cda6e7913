"""``igcv3det predict`` with a segmenter: overlays, PNG masks and shares of the classes."""

from __future__ import annotations

import argparse
import contextlib
from functools import partial
from typing import Any

from igcv3det.cli.command import WRONG_CALL, report
from igcv3det.cli.source_run import Prediction, SourceRun
from igcv3det.io.frames import Frame
from igcv3det.tasks.segment.drawing import MaskFolder, draw_segmentation
from igcv3det.tasks.segment.predictor import Segmentation, SegmentationPredictor

SHARE_DIGITS = 6
_OF_DETECTORS = ("csv", "threshold", "classes", "iou", "tile", "track")


def predict_segments(options: argparse.Namespace) -> int:
    """Segments all sources of the options and writes the results.

    Returns:
        Exit status.
    """
    given = [f"--{name}" for name in _OF_DETECTORS if getattr(options, name) not in (None, False)]
    if given:
        report("predict", f"{', '.join(given)}: for detectors; {options.checkpoint} is a segmenter")
        return WRONG_CALL
    predictor = SegmentationPredictor.load(options.checkpoint, options.device)
    with contextlib.ExitStack() as stack:
        return _Run(predictor, options, stack).finish(stack)


class _Run(SourceRun):
    def __init__(
        self,
        predictor: SegmentationPredictor,
        options: argparse.Namespace,
        stack: contextlib.ExitStack,
    ) -> None:
        super().__init__(options, stack, [options.masks, options.json])
        self._predictor = predictor

    def make_folders(self, options: argparse.Namespace) -> None:
        self._masks = MaskFolder(options.masks, self.protected) if options.masks else None

    def predict(self, frame: Frame) -> Prediction:
        found = self._predictor(frame.image)
        with self.failures.caught():
            if self._masks:
                self._masks.write(frame, found)
        draw = partial(draw_segmentation, frame.image, found)
        return Prediction(_record(frame, found), draw, _listed(found))


def _record(frame: Frame, found: Segmentation) -> dict[str, Any]:
    """The shares of the classes as plain values for JSON; those without a pixel are left out."""
    height, width = frame.image.shape[:2]
    record: dict[str, Any] = {"file": str(frame.file), "width": width, "height": height}
    if frame.index is not None:
        record |= {"frame": frame.index, "time": frame.time}
    record["classes"] = [
        {"label": name, "share": round(share, SHARE_DIGITS)} for name, share in found.shares.items()
    ]
    return record


def _listed(found: Segmentation) -> str:
    return ", ".join(f"{100 * share:.0f} % {name}" for name, share in found.shares.items())
