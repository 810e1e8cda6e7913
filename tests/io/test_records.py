"""JSON and CSV of detections."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import THREE

from igcv3det.io.frames import Frame, UnreadableSource
from igcv3det.io.records import RecordWriter, error_record, frame_record
from igcv3det.structures import Categories, Detections

IMAGE = np.zeros((60, 80, 3), dtype=np.uint8)
FOUND = Detections(
    torch.tensor([[1.0, 2.5, 3.0, 4.0]]), torch.tensor([0.75]), torch.tensor([2]), THREE
)


def test_an_image():
    assert frame_record(Frame(Path("a.png"), IMAGE), FOUND) == {
        "file": "a.png",
        "width": 80,
        "height": 60,
        "detections": [
            {"label": "dog", "category_id": 3, "score": 0.75, "box": [1.0, 2.5, 3.0, 4.0]}
        ],
    }


def test_a_frame_of_a_video():
    record = frame_record(Frame(Path("a.mp4"), IMAGE, 3, 0.12, 25.0), Detections.empty(THREE))
    assert (record["frame"], record["time"], record["detections"]) == (3, 0.12, [])


def test_files(tmp_path):
    yak = Detections(FOUND.boxes, FOUND.scores, torch.tensor([1]), Categories((5,), ("Яk, big",)))
    records = [
        frame_record(Frame(Path("a.png"), IMAGE), FOUND),
        error_record(UnreadableSource(Path("b.png"), "b.png: no such file")),
        frame_record(Frame(Path("c.mp4"), IMAGE, 0, 0.0, 25.0), yak),
    ]
    with RecordWriter(tmp_path / "new" / "r.json", tmp_path / "r.csv") as writer:
        for record in records:
            writer.write(record)
    text = (tmp_path / "new" / "r.json").read_text(encoding="utf-8")
    assert json.loads(text) == records
    assert len(text.splitlines()) == len(records) + 2
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.png", "c.mp4"]
    assert rows[0]["frame"] == ""
    assert (rows[1]["frame"], rows[1]["label"], rows[1]["y0"]) == ("0", "Яk, big", "2.5")


def _write_and_fail(writer):
    writer.write({"file": "a.png"})
    raise KeyError


def test_files_are_complete_without_records_and_after_an_error(tmp_path):
    with RecordWriter(tmp_path / "r.json"):
        pass
    assert json.loads((tmp_path / "r.json").read_text()) == []
    with pytest.raises(KeyError), RecordWriter(tmp_path / "s.json", tmp_path / "s.csv") as writer:
        _write_and_fail(writer)
    assert json.loads((tmp_path / "s.json").read_text()) == [{"file": "a.png"}]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is always full")
@pytest.mark.parametrize("option", ["json_file", "csv_file"])
def test_a_full_disk_names_the_file(option):
    writer = RecordWriter(**{option: Path("/dev/full")})
    writer.write(frame_record(Frame(Path("a.png"), IMAGE), FOUND))
    with pytest.raises(OSError, match="/dev/full: cannot be written: No space left"):
        writer.close()


@pytest.mark.parametrize("old", [None, "of the last run"])
def test_a_file_that_cannot_be_made_is_named_and_the_other_is_as_before(tmp_path, old):
    other = tmp_path / "r.json"
    if old is not None:
        other.write_text(old)
    with pytest.raises(OSError, match=r"cannot be written: Is a directory"):
        RecordWriter(other, tmp_path)
    assert (other.read_text() if other.exists() else None) == old


def test_old_content_is_replaced(tmp_path):
    (tmp_path / "r.json").write_text("longer than what follows" * 10)
    with RecordWriter(tmp_path / "r.json"):
        pass
    assert (tmp_path / "r.json").read_text() == "[]\n"


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")
    with RecordWriter(tmp_path / "r.json", tmp_path / "r.csv") as writer:
        writer.write(frame_record(Frame(Path(name), IMAGE), FOUND))
    (record,) = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert record["file"] == name
    assert "caf\\udce9.png," in (tmp_path / "r.csv").read_text(encoding="utf-8")
