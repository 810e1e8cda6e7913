"""Detections as JSON and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.structures import Detections

SCORE_DIGITS = 6
BOX_DIGITS = 3  # of a pixel
COLUMNS = ("file", "frame", "time", "label", "category_id", "score", "x0", "y0", "x1", "y1")


def frame_record(frame: Frame, detections: Detections) -> dict[str, Any]:
    """The detections of an image as plain values for JSON.

    A frame of a video has "frame", its index, and "time", in seconds, besides.

    Args:
        frame: the image.
        detections: with categories, boxes in pixels of the image.
    """
    height, width = frame.image.shape[:2]
    record: dict[str, Any] = {"file": str(frame.file), "width": width, "height": height}
    if frame.index is not None:
        record |= {"frame": frame.index, "time": frame.time}
    rows = zip(
        detections.names,
        detections.category_ids,
        detections.scores.tolist(),
        detections.boxes.tolist(),
        strict=True,
    )
    record["detections"] = [
        {
            "label": name,
            "category_id": category_id,
            "score": round(score, SCORE_DIGITS),
            "box": [round(side, BOX_DIGITS) for side in box],
        }
        for name, category_id, score, box in rows
    ]
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

    Raises:
        OSError: a file cannot be written.
    """

    def __init__(self, json_file: Path | None = None, csv_file: Path | None = None) -> None:
        self._separator = "[\n"
        self._csv: TextIO | None = None
        self._json = _opened(json_file)
        try:
            self._csv = _opened(csv_file)
        except OSError:
            self.close()
            raise
        if self._csv:
            csv.writer(self._csv).writerow(COLUMNS)

    def write(self, record: dict[str, Any]) -> None:
        """Appends a result of `frame_record` or `error_record`."""
        if self._json:
            self._json.write(self._separator + json.dumps(record, ensure_ascii=False))
            self._separator = ",\n"
        if self._csv:
            first = [record["file"], record.get("frame", ""), record.get("time", "")]
            csv.writer(self._csv).writerows(
                [*first, found["label"], found["category_id"], found["score"], *found["box"]]
                for found in record.get("detections", ())
            )

    def close(self) -> None:
        """Completes both files."""
        if self._json:
            self._json.write("[]\n" if self._separator == "[\n" else "\n]\n")
            self._json.close()
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


def _opened(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
