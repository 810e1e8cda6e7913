"""The loop over the sources of ``igcv3det predict``, whatever is predicted."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from igcv3det.cli.command import report
from igcv3det.cli.progress import Progress, ReportedWarnings
from igcv3det.cli.results import is_standard_output
from igcv3det.io.addresses import Address
from igcv3det.io.drawing_folder import DrawingFolder
from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.io.images import Image
from igcv3det.io.records import RecordWriter, error_record
from igcv3det.io.sources import read_sources
from igcv3det.io.window import Window

STILL_MS = 0  # an image file stays in the window until a key is pressed


class Prediction(NamedTuple):
    """What was found in a frame.

    Attributes:
        record: of the JSON file.
        draw: draws it; called only where a drawing is wanted.
        summary: for the line of an image.
    """

    record: dict[str, Any]
    draw: Callable[[], Image]
    summary: str


class SourceRun(ABC):
    """The open files of a run, and what has been done so far.

    Args:
        options: of the command.
        stack: closes the files.
        results: files and folders that the run writes, besides its drawings.
        csv: file of the table.
        is_sequence: the sources are the frames of one video.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        stack: contextlib.ExitStack,
        results: list[Path | None],
        csv: Path | None = None,
        *,
        is_sequence: bool = False,
    ) -> None:
        self._files = options.sources.files
        self._is_sequence = is_sequence
        self._results = [path for path in (options.output, *results) if path]
        # records on standard output are alone there
        is_taken = any(map(is_standard_output, filter(None, (options.json, csv))))
        self._lines = sys.stderr if is_taken else sys.stdout
        self.protected = [*options.sources.paths, *self._results]
        self._window = stack.enter_context(Window("igcv3det")) if options.show else None
        self._folder: DrawingFolder | None = None
        if options.output:
            self._folder = stack.enter_context(DrawingFolder(options.output, self.protected))
        self.make_folders(options)
        # after the folders: it empties the files, which must not happen if nothing can be drawn
        self._records = stack.enter_context(RecordWriter(options.json, csv, ids=is_sequence))
        # frames of videos are drawn and written while the next one is predicted
        self._writer = stack.enter_context(ThreadPoolExecutor(max_workers=1))
        self._writing: Future[Path] | None = None
        self.images = 0
        self._progress = SourceProgress(self._files)
        stack.enter_context(ReportedWarnings("predict", self._progress))
        self.failures = Failures(self._progress)

    def make_folders(self, options: argparse.Namespace) -> None:  # noqa: B027 (none by default)
        """Makes further folders of the run, before a result file is opened."""

    @abstractmethod
    def predict(self, frame: Frame) -> Prediction:
        """Predicts a frame; files of its own are written under `failures`."""

    @property
    def counts(self) -> str:
        """What was done, for the last line."""
        return f"images: {self.images}"

    def _all_sources(self) -> None:
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
        found = self.predict(frame)
        self._records.write(found.record)
        is_wanted = True
        if self._window:
            drawn = found.draw()
            found = found._replace(draw=lambda: drawn)
            is_still = frame.index is None and not self._is_sequence
            is_wanted = self._window.show(drawn, STILL_MS if is_still else 1)
        if self._folder:
            self._wait_for_writing()
            self._writing = self._writer.submit(_write, self._folder, frame, found)
            if frame.index is None:
                self._wait_for_writing()
        if frame.index is None:
            self._progress.clear()
            print_line(f"{frame.file}: {found.summary}", self._lines)
        self.images += 1
        return is_wanted

    def _wait_for_writing(self) -> None:
        """Until the drawing that was begun is written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            with self.failures.caught():
                writing.result()

    def _close_drawings(self) -> None:
        """Completes the last video; if that fails, the other files are completed all the same."""
        self._wait_for_writing()
        if self._folder:
            with self.failures.caught():
                self._folder.close()

    def _summarise(self) -> None:
        """Prints what was done."""
        self._progress.clear()
        places = ", ".join(map(str, self._results))
        where = f"; results in {places}" if places else ""
        print_line(f"{self.counts}{self.failures.summary}{where}", self._lines)

    def finish(self, stack: contextlib.ExitStack) -> int:
        """Does everything.

        Args:
            stack: of the files, which an interrupt completes before the last line.

        Returns:
            Exit status.
        """
        try:
            self._all_sources()
        except KeyboardInterrupt:
            self._close_drawings()
            stack.close()
            self._summarise()
            raise
        self._close_drawings()
        stack.close()
        self._summarise()
        return 1 if self.failures.reasons else 0


def _write(folder: DrawingFolder, frame: Frame, found: Prediction) -> Path:
    return folder.write(frame, found.draw())


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


def print_line(line: str, stream: TextIO) -> None:
    """Prints a line; the run continues when the reader of the stream has gone."""
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
