"""``igcv3det predict`` with a segmenter: overlays, PNG masks and shares of the classes."""

from __future__ import annotations

import argparse
import contextlib
from typing import Any

from igcv3det.cli.command import WRONG_CALL, report
from igcv3det.cli.prediction import STILL_MS, Failures, SourceProgress, print_line
from igcv3det.io.drawing_folder import DrawingFolder
from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.io.records import RecordWriter, error_record
from igcv3det.io.sources import read_sources
from igcv3det.io.window import Window
from igcv3det.tasks.segment.drawing import MaskFolder, draw_segmentation
from igcv3det.tasks.segment.predictor import Segmentation, SegmentationPredictor

SHARE_DIGITS = 6
_OF_DETECTORS = ("csv", "classes", "iou", "tile", "track")


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
        run = _Run(predictor, options, stack)
        try:
            run.all_sources()
        except KeyboardInterrupt:
            stack.close()  # completes the files before the line that names them
            run.summarise()
            raise
    run.summarise()
    return 1 if run.failures.reasons else 0


class _Run:
    """The open files of a run, and what has been done so far."""

    def __init__(
        self,
        predictor: SegmentationPredictor,
        options: argparse.Namespace,
        stack: contextlib.ExitStack,
    ) -> None:
        self._predictor = predictor
        self._files = options.sources.files
        self._results = [path for path in (options.output, options.masks, options.json) if path]
        protected = [*options.sources.paths, *self._results]
        self._window = stack.enter_context(Window("igcv3det")) if options.show else None
        self._records = stack.enter_context(RecordWriter(options.json))
        self._folder: DrawingFolder | None = None
        if options.output:
            self._folder = stack.enter_context(DrawingFolder(options.output, protected))
        self._masks = MaskFolder(options.masks, protected) if options.masks else None
        self._images = 0
        self._progress = SourceProgress(self._files)
        self.failures = Failures(self._progress)

    def all_sources(self) -> None:
        """Reads the sources one after the other, until the window is closed."""
        with contextlib.closing(read_sources(self._files)) as items:
            for item in items:
                if isinstance(item, UnreadableSource):
                    self.failures.add(item.reason)
                    self._records.write(error_record(item))
                elif not self._one_frame(item):
                    return
                self._progress.advance(item)

    def _one_frame(self, frame: Frame) -> bool:
        """Whether the run continues."""
        found = self._predictor(frame.image)
        self._records.write(_record(frame, found))
        is_wanted = True
        with self.failures.caught():
            if self._masks:
                self._masks.write(frame, found)
        if self._folder or self._window:
            drawn = draw_segmentation(frame.image, found)
            if self._folder:
                with self.failures.caught():
                    self._folder.write(frame, drawn)
            if self._window:
                is_wanted = self._window.show(drawn, STILL_MS if frame.index is None else 1)
        if frame.index is None:
            self._progress.clear()
            print_line(f"{frame.file}: {_listed(found)}")
        self._images += 1
        return is_wanted

    def summarise(self) -> None:
        """Prints what was done."""
        self._progress.clear()
        places = ", ".join(map(str, self._results))
        where = f"; results in {places}" if places else ""
        print_line(f"images: {self._images}{self.failures.summary}{where}")


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
