"""The loop of ``igcv3det predict``: from each image to its record, its drawing and the window."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from igcv3det.cli.command import report
from igcv3det.cli.progress import Progress, ReportedWarnings
from igcv3det.io.addresses import Address
from igcv3det.io.drawing import draw_detections
from igcv3det.io.drawing_folder import DrawingFolder
from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.io.records import RecordWriter, error_record, frame_record
from igcv3det.io.sources import read_sources
from igcv3det.io.window import Window
from igcv3det.predictor import Predictor
from igcv3det.structures import Detections
from igcv3det.tracking.frames import SMOOTHING, FrameTracker

STILL_MS = 0  # an image file stays in the window until a key is pressed


def predict_sources(predictor: Predictor, options: argparse.Namespace) -> int:
    """Detects the objects of all sources of the options and writes the results.

    Returns:
        Exit status.
    """
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
        self, predictor: Predictor, options: argparse.Namespace, stack: contextlib.ExitStack
    ) -> None:
        self._files = options.sources.files
        self._is_sequence = options.track
        self._detect = _detection(predictor, options)
        self._results = [path for path in (options.output, options.json, options.csv) if path]
        protected = [*options.sources.paths, *self._results]
        self._window = stack.enter_context(Window("igcv3det")) if options.show else None
        self._records = stack.enter_context(
            RecordWriter(options.json, options.csv, ids=options.track)
        )
        self._folder: DrawingFolder | None = None
        if options.output:
            self._folder = stack.enter_context(DrawingFolder(options.output, protected))
        self._images = self._objects = 0
        self._progress = SourceProgress(self._files)
        stack.enter_context(ReportedWarnings("predict", self._progress))
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
        detections = self._detect(frame)
        self._records.write(frame_record(frame, detections))
        is_wanted = True
        if self._folder or self._window:
            drawn = draw_detections(frame.image, detections)
            if self._folder:
                with self.failures.caught():
                    self._folder.write(frame, drawn)
            if self._window:
                is_still = frame.index is None and not self._is_sequence
                is_wanted = self._window.show(drawn, STILL_MS if is_still else 1)
        if frame.index is None:
            self._progress.clear()
            print_line(f"{frame.file}: {_listed(detections.names)}")
        self._images += 1
        self._objects += len(detections)
        return is_wanted

    def summarise(self) -> None:
        """Prints what was done."""
        self._progress.clear()
        places = ", ".join(map(str, self._results))
        print_line(
            f"objects: {self._objects}, images: {self._images}{self.failures.summary}"
            f"{f'; results in {places}' if places else ''}"
        )


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


class SourceProgress(Progress):
    """Files done of all files, or frames done of the video that is being read."""

    def __init__(self, files: list[Path | Address | UnreadableSource]) -> None:
        super().__init__()
        self._total = len(files)
        self._begun = 0
        self._started = self._video_started = time.monotonic()
        self._file: Path | Address | None = None

    def advance(self, item: Frame | UnreadableSource) -> None:
        """Shows the state after this item."""
        if item.file is not self._file:
            self._file = item.file
            self._begun += 1
            self._video_started = time.monotonic()
        if isinstance(item, Frame) and item.index is not None:
            # The time counts from the first frame, which is therefore left out
            self.show(f"{item.file}: frame", item.index, item.total, self._video_started)
        else:
            self.show("files:", self._begun, self._total, self._started)


class Failures:
    """Reports each failure once: a video that cannot be written fails at each of its frames."""

    def __init__(self, progress: Progress) -> None:
        self.reasons: set[str] = set()
        self._progress = progress

    def add(self, reason: str) -> None:
        """Reports a reason, unless it was reported before."""
        if reason not in self.reasons:
            self.reasons.add(reason)
            self._progress.clear()
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
        """For the last line of the run; empty without failures."""
        return f"; {len(self.reasons)} could not be read or written" if self.reasons else ""


def print_line(line: str) -> None:
    """Prints a line; the run continues when the reader of standard output has gone."""
    try:
        print(line, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _listed(names: list[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).items()) or "nothing"
