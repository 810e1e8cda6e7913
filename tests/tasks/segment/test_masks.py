"""Masks: what is read, what is refused, and which labels become classes."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from igcv3det.tasks.segment.masks import ClassLabels, MaskError, check_names, read_mask

LABELS = np.array([[0, 1, 2], [2, 200, 255]], np.uint8)


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "I"])
def test_grey_values_and_palette_indices(tmp_path, mode):
    path = tmp_path / "a.png"
    if mode == "P":
        image = PIL.Image.fromarray(LABELS, "P")
        image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    else:
        kind = {"L": np.uint8, "I;16": np.uint16, "I": np.int32}[mode]
        image = PIL.Image.fromarray(LABELS.astype(kind))
    image.save(path if mode != "I" else path.with_suffix(".tif"))
    found = read_mask(path if mode != "I" else path.with_suffix(".tif"))
    assert found.dtype == np.uint8
    assert found.tolist() == LABELS.tolist()


def test_black_and_white_is_0_and_1(tmp_path):
    PIL.Image.fromarray(LABELS > 1).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 0, 1], [1, 1, 1]]


def _write(path, kind):
    if kind == "rgb":
        PIL.Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    elif kind == "wide":
        PIL.Image.fromarray(np.full((4, 4), 300, np.uint16)).save(path)
    elif kind != "absent":
        path.write_bytes(b"" if kind == "empty" else b"no image")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("rgb", r"a\.png: an RGB mask, whose colours do not say"),
        ("wide", r"a\.png: label 300 is above 255"),
        ("empty", r"a\.png: the file is empty"),
        ("text", r"a\.png: not a readable mask"),
        ("absent", r"a\.png: no such file"),
    ],
)
def test_refused(tmp_path, kind, message):
    _write(tmp_path / "a.png", kind)
    with pytest.raises(MaskError, match=message):
        read_mask(tmp_path / "a.png")


def test_ignored_labels_leave_no_gap_among_the_classes():
    classes = ClassLabels((0, 2, 3), (1, 9), ("a", "b", "c"))
    mask = np.array([[0, 1, 2, 3, 9, 255]], np.uint8)
    assert classes.to_classes(mask, Path("m.png")).tolist() == [[0, 255, 1, 2, 255, 255]]
    assert classes.to_labels(np.array([[0, 1, 2]], np.uint8)).tolist() == [[0, 2, 3]]


def test_a_label_of_no_class_is_named_with_its_place():
    mask = np.zeros((5, 6), np.uint8)
    mask[3, 4:] = 7
    line = r"m\.png: label 7 at row 3, column 4 \(2 pixels\) is none of the 2 classes \(0 to 1\)"
    with pytest.raises(MaskError, match=line):
        ClassLabels((0, 1), (), ("a", "b")).to_classes(mask, Path("m.png"))


@pytest.mark.parametrize(
    ("names", "message"), [(["a", "b", "a"], "twice: a"), (["a"], "has 1 names")]
)
def test_names(names, message):
    with pytest.raises(ValueError, match=message):
        check_names(names, Path("names.txt"))
