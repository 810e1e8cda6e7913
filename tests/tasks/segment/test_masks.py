"""Masks: what is read, what is refused, and which labels become classes."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from igcv3det.tasks.segment.class_tables import (
    ClassTable,
    find_class_table,
    read_class_table,
)
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


def save(values, mode=None):
    return lambda path: PIL.Image.fromarray(np.array(values), mode).save(path)


RED, GREEN = [200, 0, 0], [0, 200, 0]
TABLE = ClassTable(Path("table.txt"), ["red", "green"], np.array([RED, GREEN], np.uint8))
TRANSPARENT = np.dstack([np.full((2, 3, 3), 200), [[255, 255, 255], [255, 9, 255]]])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (save(np.full((4, 4, 3), 7, np.uint8)), r"an RGB mask \(its first pixel is 7 7 7\): name "),
        (
            save(np.full((2, 2), 300, np.uint16)),
            r"label 300 at row 0, column 0 \(4 pixels\)",
        ),
        (save(TRANSPARENT.astype(np.uint8)), r"alpha 9 at row 1, column 1 \(1 pixels\)"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(b"no image"), "not a readable mask"),
        (lambda path: None, "no such file"),
        (
            lambda path: PIL.Image.new("L", (8, 8)).save(path, format="JPEG"),
            "a JPEG file, whose compression changes labels",
        ),
        (
            lambda path: PIL.Image.new("CMYK", (8, 8)).save(path, format="TIFF"),
            "an CMYK mask; save it as grey values",
        ),
    ],
    ids=["rgb", "wide", "transparent", "empty", "text", "absent", "jpeg", "cmyk"],
)
def test_refused(tmp_path, write, message):
    write(tmp_path / "a.png")
    with pytest.raises(MaskError, match=rf"a\.png: {message}"):
        read_mask(tmp_path / "a.png")


def test_negative_labels_are_named(tmp_path):
    PIL.Image.fromarray(np.array([[0, -3]], np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(MaskError, match=r"label -3 at row 0, column 1"):
        read_mask(tmp_path / "a.tif")


def test_opaque_alpha_has_no_meaning(tmp_path):
    grey = np.dstack([LABELS, np.full_like(LABELS, 255)])
    PIL.Image.fromarray(grey, "LA").save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == LABELS.tolist()
    PIL.Image.fromarray(np.array([[[*RED, 255], [*GREEN, 255]]], np.uint8)).save(tmp_path / "b.png")
    assert read_mask(tmp_path / "b.png", TABLE).tolist() == [[0, 1]]


def test_colours_by_a_table(tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(np.array([[RED, GREEN], [GREEN, GREEN]], np.uint8)).save(path)
    assert read_mask(path, TABLE).tolist() == [[0, 1], [1, 1]]
    PIL.Image.fromarray(np.array([[RED, GREEN], [GREEN, [0, 200, 1]]], np.uint8)).save(path)
    line = r"a\.png: colour 0 200 1 at row 1, column 1 \(1 pixels\) is none of the 2 of table\.txt"
    with pytest.raises(MaskError, match=line):
        read_mask(path, TABLE)
    with pytest.raises(MaskError, match=r"200 0 0\), and names\.txt has names alone: name"):
        read_mask(path, ClassTable(Path("names.txt"), ["a", "b"]))


@pytest.mark.parametrize(
    "text",
    [
        "64 128 64\tAnimal\n192 0 128 Traffic Light\n",
        "name,r,g,b\nAnimal, 64, 128, 64\nTraffic Light, 192, 0, 128\n",
        "# label:color_rgb:parts:actions\nAnimal:64,128,64::\nTraffic Light:192,0,128::\n",
    ],
    ids=["CamVid", "CSV", "CVAT"],
)
def test_tables_of_colours(tmp_path, text):
    (tmp_path / "t.txt").write_text(text)
    found = read_class_table(tmp_path / "t.txt")
    assert found.names == ["Animal", "Traffic Light"]
    assert found.colours.tolist() == [[64, 128, 64], [192, 0, 128]]


def test_names_alone(tmp_path):
    assert find_class_table(tmp_path) is None
    (tmp_path / "label_colors.txt").write_text("1 2 3 a\n4 5 6 b\n")
    assert find_class_table(tmp_path).names == ["a", "b"]
    (tmp_path / "classes.txt").write_text("route 66\n\n3 way 5\n")
    assert find_class_table(tmp_path)[1:] == (["route 66", "3 way 5"], None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3 a\nb\n", r"t\.txt: line 2: 'b' has no colour"),
        ("1 2 3 a\n\n1 2 3 b\n", r"line 3: b has the colour \(1, 2, 3\) of a"),
        ("1 2 300 a\n", r"line 1: a: \(1, 2, 300\) is no colour"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "t.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_table(tmp_path / "t.txt")


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
