"""What was found in images, as JSON and CSV."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from igcv3det.io.sources import Frame, UnreadableSource
from igcv3det.structures import Detections

SCORE_DIGITS = 6
BOX_DIGITS = 3  # of a pixel
COLUMNS = ("file", "frame", "time", "label", "category_id", "score", "x0", "y0", "x1", "y1")


def frame_record(frame: Frame, detections: Detections) -> dict[str, Any]:
    """Plain values for JSON; a frame of a video has its "frame" number and "time" in seconds too.

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
    """Plain values for JSON: the file and why it could not be read."""
    return {"file": str(source.file), "error": source.reason}


class RecordWriter:
    """Writes records while they come, to a JSON list and to a CSV table of the objects.

    In the JSON file every record has a line of its own. Both files are complete after the context,
    even when it is left by an error. CSV has no lines for images without objects and unreadable
    ones.

    Args:
        json_file: None writes none.
        csv_file: None writes none.

    Raises:
        OSError: a file cannot be written.
    """

    def __init__(self, json_file: Path | None = None, csv_file: Path | None = None) -> None:
        self._json = _opened(json_file)
        self._csv = _opened(csv_file)
        self._separator = "[\n"
        if self._csv:
            csv.writer(self._csv).writerow(COLUMNS)

    def write(self, record: dict[str, Any]) -> None:
        """Appends what `frame_record` or `error_record` gave."""
        if self._json:
            self._json.write(self._separator + json.dumps(record, ensure_ascii=False))
            self._separator = ",\n"
        if self._csv:
            first = [record["file"], record.get("frame", ""), record.get("time", "")]
            csv.writer(self._csv).writerows(
                [*first, found["label"], found["category_id"], found["score"], *found["box"]]
                for found in record.get("detections", ())
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._json:
            self._json.write("[]\n" if self._separator == "[\n" else "\n]\n")
            self._json.close()
        if self._csv:
            self._csv.close()


def _opened(path: Path | None) -> TextIO | None:
    if path is None:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("w", encoding="utf-8", newline="")
