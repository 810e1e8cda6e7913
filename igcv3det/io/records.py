"""Detections as JSON and CSV."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.structures import Detections

SCORE_DIGITS = 6
BOX_DIGITS = 3  # of a pixel
COLUMNS = ("file", "frame", "time", "label", "category_id", "score", "x0", "y0", "x1", "y1")


def frame_record(frame: Frame, detections: Detections) -> dict[str, Any]:
    """The detections of an image as plain values for JSON.

    A frame of a video has "frame", its index, and "time", in seconds, besides; a tracked detection
    has "id".

    Args:
        frame: the image.
        detections: with categories, boxes in pixels of the image.
    """
    height, width = frame.image.shape[:2]
    record: dict[str, Any] = {"file": str(frame.file), "width": width, "height": height}
    if frame.index is not None:
        record |= {"frame": frame.index, "time": frame.time}
    record |= detections.to_dict()
    for found in record["detections"]:
        found["score"] = round(found["score"], SCORE_DIGITS)
        found["box"] = [round(side, BOX_DIGITS) for side in found["box"]]
    return record


def error_record(source: UnreadableSource) -> dict[str, Any]:
    """The file and why it could not be read, as plain values for JSON."""
    return {"file": str(source.file), "error": source.reason}


class RecordWriter:
    """Writes records as they come: all to a JSON list, one a line, the detections to a CSV table.

    Both files are complete when the context ends, by an error too. In a file name that is not
    UTF-8 the other bytes are escaped; `os.fsencode` of the name in the JSON gives them back.

    Args:
        json_file: None writes none.
        csv_file: None writes none.
        ids: add the column "id" to the table, for tracked detections.

    Raises:
        OSError: a file cannot be written; the other one is left as it was.
    """

    def __init__(
        self, json_file: Path | None = None, csv_file: Path | None = None, *, ids: bool = False
    ) -> None:
        self._ids = ids
        self._separator = "[\n"
        self._csv: _TextFile | None = None
        self._json = _TextFile(json_file) if json_file else None
        try:
            self._csv = _TextFile(csv_file) if csv_file else None
        except OSError:
            if self._json:
                self._json.discard()
            raise
        for file in (self._json, self._csv):
            if file:
                file.clear()
        if self._csv:
            csv.writer(self._csv).writerow([*COLUMNS, "id"] if ids else COLUMNS)

    def write(self, record: dict[str, Any]) -> None:
        """Appends a result of `frame_record` or `error_record`."""
        if self._json:
            self._json.write(self._separator + json.dumps(record, ensure_ascii=False))
            self._separator = ",\n"
        if self._csv:
            first = [record["file"], record.get("frame", ""), record.get("time", "")]
            for found in record.get("detections", ()):
                row = [found["label"], found["category_id"], found["score"], *found["box"]]
                last = [found.get("id", "")] if self._ids else []
                csv.writer(self._csv).writerow([*first, *row, *last])

    def close(self) -> None:
        """Completes both files."""
        try:
            if self._json:
                self._json.write("[]\n" if self._separator == "[\n" else "\n]\n")
                self._json.close()
        finally:
            if self._csv:
                self._csv.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _TextFile:
    """A UTF-8 file whose name is in every error; it keeps its old content until `clear`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_new = not path.exists()
        with self._named():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(  # noqa: SIM115 (closed by `close`)
                path,
                "w",
                encoding="utf-8",
                errors="backslashreplace",
                newline="",
                opener=lambda name, flags: os.open(name, flags & ~os.O_TRUNC, 0o666),
            )

    def clear(self) -> None:
        """Removes the old content."""
        with self._named():
            if self.path.is_file():  # a pipe or device has none
                self._file.truncate(0)

    def discard(self) -> None:
        """Closes the file as it was, or removes it if it is new."""
        self._file.close()
        if self._is_new:
            self.path.unlink(missing_ok=True)

    def write(self, text: str) -> None:
        with self._named():
            self._file.write(text)

    def close(self) -> None:
        with self._named():
            self._file.close()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(f"{self.path}: cannot be written: {error.strerror}") from error
