"""Boxes and texts are drawn at their places, into a copy of the image."""

import itertools
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from igcv3det.io import drawing, fonts
from igcv3det.io.drawing import (
    draw_boxes,
    draw_detections,
    draw_side_by_side,
    label_colour,
    tile_images,
)
from igcv3det.structures import Categories, Detections

RED = (255, 0, 0)


def grey(height=200, width=300):
    return np.full((height, width, 3), 128, dtype=np.uint8)


def changed(before, after):
    """y0, x0, y1, x1 of the pixels that differ, ends included."""
    ys, xs = np.nonzero((before != after).any(axis=2))
    return ys.min(), xs.min(), ys.max(), xs.max()


def detections(boxes, labels, names=("cat", "dog")):
    count = len(labels)
    scores = torch.linspace(0.9, 0.5, count) if count else torch.zeros(0)
    categories = Categories(tuple(range(1, len(names) + 1)), tuple(names))
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Detections(boxes, scores, torch.tensor(labels, dtype=torch.int64), categories)


def test_a_box_is_drawn_on_its_edges_and_the_image_is_not_changed():
    image = grey()
    drawn = draw_boxes(image, torch.tensor([[50.0, 60.0, 250.0, 180.0]]), [""], [RED])
    for y, x in ((60, 150), (180, 150), (120, 50), (120, 250)):
        assert tuple(drawn[y, x]) == RED
    assert tuple(drawn[120, 150]) == (128, 128, 128)
    assert (image == 128).all()


def test_no_detections_give_an_equal_copy():
    image = grey()
    drawn = draw_detections(image, Detections.empty())
    assert (drawn == image).all()
    assert not np.shares_memory(drawn, image)


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 20, 20],
        [280, 0, 299, 50],
        [0, 190, 30, 199],
        [290, 190, 400, 400],
        [-50, -50, -10, -10],
    ],
)
def test_text_stays_inside_the_image(box):
    image = grey()
    drawn = draw_boxes(image, torch.tensor([box], dtype=torch.float32), ["a long name 0.99"], [RED])
    y0, x0, y1, x1 = changed(image, drawn)
    assert 0 < y1 - y0 < 200
    assert x1 - x0 > 60  # the whole text, not clipped at the border
    assert (drawn > 170).all(axis=2).any()  # whitish text on red, smoothed


def test_the_best_detection_is_on_top():
    found = detections([[50, 60, 250, 180], [50, 60, 250, 180]], [1, 2])
    drawn = draw_detections(grey(), found)
    assert tuple(drawn[180, 150]) == label_colour(1)


def test_text_and_lines_grow_with_the_image():
    def plate_height(side):
        image = grey(side, side)
        drawn = draw_boxes(image, torch.tensor([[0.0, side / 2, 1.0, side / 2 + 1]]), ["x"], [RED])
        y0, _, y1, _ = changed(image, drawn)
        return y1 - y0

    assert plate_height(1200) > 2 * plate_height(200)


@pytest.mark.parametrize("name", ["стол", "日本語", "🦓", "two\nlines", "", "\x00"])
def test_any_class_name_can_be_drawn(name):
    drawn = draw_detections(grey(), detections([[50, 60, 250, 180]], [1], (name,)))
    assert tuple(drawn[180, 150]) == label_colour(1)


@pytest.fixture
def system_fonts(monkeypatch):
    """Sets the folders in which the system looks for fonts."""

    def set_folders(*folders):
        for cached in (fonts._system_fonts, fonts._font_file, drawing._drawable_name):
            cached.cache_clear()
        monkeypatch.setattr(fonts, "font_folders", lambda: list(folders))

    yield set_folders
    set_folders()


def drawn_name(name, category_id=77):
    boxes, scores = torch.tensor([[50.0, 60, 250, 180]]), torch.tensor([0.9])
    categories = Categories((category_id,), (name,))
    return draw_detections(grey(), Detections(boxes, scores, torch.tensor([1]), categories))


def test_a_name_beyond_ascii_takes_a_font_of_the_system(system_fonts, caplog):
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"  # has DejaVu
    system_fonts(Path("no such folder"), folder)
    size = 10
    font = fonts.find_font("Größe, стол", size)
    assert font.getname()[0].startswith("DejaVu Sans")
    different = {bytes(font.getmask(letter)) for letter in "ößстл"}
    assert len(different) == 5  # not five empty squares
    assert (drawn_name("Größe, стол") != drawn_name("77")).any()
    assert caplog.records == []


@pytest.mark.parametrize("name", ["\u732b", "\x00", "\udce9"])
def test_a_name_without_a_font_is_drawn_as_category_id(system_fonts, caplog, name):
    system_fonts()
    expected = drawn_name("77")
    assert (drawn_name(name) == expected).all()
    assert (drawn_name(name) == expected).all()
    (record,) = caplog.records
    assert "category id 77" in record.getMessage()


def test_texts_without_a_font_are_question_marks(system_fonts):
    system_fonts()
    box = torch.tensor([[50.0, 60, 250, 180]])
    drawn, expected = (draw_boxes(grey(), box, [text], [RED]) for text in ("\u732b 1", "? 1"))
    assert (drawn == expected).all()


def test_files_that_are_no_fonts_are_passed_over(system_fonts, tmp_path):
    (tmp_path / "dejavusans.ttf").write_text("not a font")
    system_fonts(tmp_path)
    assert fonts.find_font("é", 10) is None


def test_ground_truth_of_any_name_is_drawn(system_fonts):
    system_fonts()
    found = Detections.empty(Categories((77,), ("\u732b",)))
    box = torch.tensor([[50.0, 60, 250, 180]])
    by_name, by_id = (
        draw_side_by_side(grey(), box, [name], Detections.empty(Categories((77,), (name,))))
        for name in ("\u732b", "77")
    )
    assert (by_name == by_id).all()
    assert draw_side_by_side(grey(), box, ["other \u732b"], found).shape == (200, 604, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1)])
def test_tiny_images(shape):
    assert draw_detections(grey(*shape), detections([[0, 0, 9, 9]], [1])).shape == (*shape, 3)


def test_labels_without_categories_are_numbers():
    bare = Detections(torch.tensor([[5.0, 50, 90, 90]]), torch.tensor([0.5]), torch.tensor([7]))
    assert (draw_detections(grey(), bare) != 128).any()


def test_colours_are_stable_and_distinct():
    colours = [label_colour(label) for label in range(1, 91)]
    assert colours == [label_colour(label) for label in range(1, 91)]
    nearest = min(
        sum(abs(a - b) for a, b in zip(one, other, strict=True))
        for one, other in itertools.combinations(colours, 2)
    )
    assert nearest >= 20
    neighbours = itertools.pairwise(colours)
    assert min(sum(abs(a - b) for a, b in zip(*pair, strict=True)) for pair in neighbours) > 150


def test_side_by_side():
    image = grey(100, 150)
    found = detections([[10, 30, 90, 90]], [2])
    drawn = draw_side_by_side(image, torch.tensor([[10.0, 30, 90, 90]]), ["dog"], found)
    assert drawn.shape == (100, 304, 3)
    assert tuple(drawn[90, 50]) == tuple(drawn[90, 154 + 50]) == label_colour(2)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="must be uint8"):
        draw_boxes(image, torch.zeros(0, 4), [], [])


def test_tiles_are_centred_in_cells_row_by_row():
    tall, wide, last = (
        np.full((*size, 3), value, np.uint8)
        for size, value in (((6, 2), 10), ((2, 8), 20), ((6, 8), 30))
    )
    grid = tile_images([tall, wide, last], columns=2)
    assert grid.shape == (2 * (6 + 4), 2 * (8 + 4), 3)
    for value, (top, left, bottom, right) in {
        10: (2, 5, 8, 7),
        20: (4, 14, 6, 22),
        30: (12, 2, 18, 10),
    }.items():
        assert (grid[top:bottom, left:right] == value).all()
        assert (grid == value).all(axis=2).sum() == (bottom - top) * (right - left)
