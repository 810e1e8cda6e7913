"""Records of many files are kept, and read anew when a file has changed."""

import logging
import os

import numpy as np
import pytest
from layouts import write_layout

from igcv3det.datasets import record_cache
from igcv3det.datasets.dataset import Dataset
from igcv3det.datasets.formats import yolo_labels


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setenv(record_cache.FOLDER, str(tmp_path / "kept"))
    monkeypatch.setattr(record_cache, "MIN_FILES", 1)
    return tmp_path / "kept"


def same(first, second):
    assert first.images == second.images
    for name in ("path", "categories", "issues", "label_files", "position_text"):
        assert getattr(first.record, name) == getattr(second.record, name)
    for name in record_cache.ARRAYS:
        np.testing.assert_array_equal(
            getattr(first.record, name), getattr(second.record, name), strict=True
        )
    assert list(first.record.images) == list(second.record.images)


def test_a_kept_record_is_that_of_the_files(tmp_path, cached, monkeypatch):
    folder, _ = write_layout(tmp_path, "yolo")
    (folder / "labels" / "train" / "a.txt").unlink()  # an issue
    first = Dataset(folder).read("train")
    monkeypatch.setattr(yolo_labels, "size_or_issue", None)  # is not called again
    same(first, Dataset(folder).read("train"))
    assert len(list(cached.iterdir())) == 1


def test_a_folder_whose_name_is_not_utf8(tmp_path, cached):
    folder, _ = write_layout(tmp_path, "yolo")
    folder = folder.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    same(Dataset(folder).read("train"), Dataset(folder).read("train"))
    assert len(list(cached.iterdir())) == 1


@pytest.mark.parametrize("change", ["label", "image", "new", "gone", "description"])
def test_a_changed_file_is_noticed(tmp_path, cached, caplog, change):
    folder, _ = write_layout(tmp_path, "yolo")
    Dataset(folder).read("train")
    labels, images = folder / "labels" / "train", folder / "images" / "train"
    if change == "label":
        (labels / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    elif change == "image":
        (images / "c.png").unlink()
        (images / "c.png").write_bytes((images / "a.png").read_bytes())
    elif change == "new":
        (images / "e.png").write_bytes((images / "a.png").read_bytes())
        (labels / "e.txt").write_text("")
    elif change == "gone":
        (images / "a.png").unlink()
        (labels / "a.txt").unlink()
    else:
        (folder / "data.yaml").write_text("train: images/train\nnames: [x, y, z]\n")
    caplog.set_level(logging.INFO)
    changed = Dataset(folder).read("train")
    assert "files have changed" in caplog.text
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as context:
        context.setenv(record_cache.FOLDER, "")
        same(changed, Dataset(folder).read("train"))


def test_a_damaged_or_unwritable_record_does_no_harm(tmp_path, cached, monkeypatch, caplog):
    folder, _ = write_layout(tmp_path, "voc")
    first = Dataset(folder).read("val")
    (file,) = cached.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    same(first, Dataset(folder).read("val"))
    assert "is damaged" in caplog.text
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(record_cache.FOLDER, str(tmp_path / "file"))
    same(first, Dataset(folder).read("val"))
    assert "is not kept" in caplog.text


@pytest.mark.parametrize("given", ["path", "list", "listed"])
def test_data_outside_of_the_folder_is_read_anew(tmp_path, cached, given):
    folder, _ = write_layout(tmp_path, "yolo")
    own = tmp_path / "own"
    own.mkdir()
    images = sorted((folder / "images" / "train").iterdir())
    place = {"path": "images/train", "list": "../list.txt", "listed": "list.txt"}[given]
    root = "path: ../yolo\n" if given == "path" else ""
    (own / "data.yaml").write_text(f"{root}train: {place}\nnames: [x, y, z]\n")
    if given != "path":
        (own / place).write_text("\n".join(map(str, images)))
    before = Dataset(own).read("train").record
    (folder / "labels" / "train" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    after = Dataset(own).read("train").record
    assert len(before) - len(after) == 1
    assert not cached.exists() or not list(cached.iterdir())
