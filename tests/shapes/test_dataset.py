"""The synthetic data set: deterministic, valid COCO, and boxes that agree with arithmetic."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from igcv3det.shapes.dataset import CATEGORIES, write_shapes
from igcv3det.shapes.outlines import contains, outline, outline_box, sample, visible_share
from igcv3det.shapes.painting import fill_outline


def read(root: Path, split: str) -> dict:
    return json.loads((root / "annotations" / f"instances_{split}2017.json").read_text())


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("shapes"), train=40, val=6, image_size=128, seed=3)


def test_same_seed_same_bytes(shapes, tmp_path):
    again = write_shapes(tmp_path, train=40, val=6, image_size=128, seed=3)
    first = sorted(path.relative_to(shapes) for path in shapes.rglob("*.*"))
    assert first == sorted(path.relative_to(again) for path in again.rglob("*.*"))
    assert len(first) == 40 + 6 + 2
    for path in first:
        assert (shapes / path).read_bytes() == (again / path).read_bytes(), path


def test_seeds_and_splits_differ(shapes, tmp_path):
    other = write_shapes(tmp_path, train=1, val=6, image_size=128, seed=4)
    boxes = [
        [item["bbox"] for item in read(root, split)["annotations"]]
        for root, split in ((shapes, "val"), (other, "val"), (shapes, "train"))
    ]
    assert boxes[0] != boxes[1]
    assert boxes[0] != boxes[2][: len(boxes[0])]


def test_images_of_a_larger_set_begin_with_those_of_a_smaller(shapes, tmp_path):
    more = write_shapes(tmp_path, train=1, val=8, image_size=128, seed=3)
    images = read(shapes, "val")["images"]
    assert read(more, "val")["images"][: len(images)] == images
    name = images[5]["file_name"]
    small, large = ((root / "val2017" / name).read_bytes() for root in (shapes, more))
    assert small == large


def test_pycocotools_reads_it(shapes, capsys):
    coco = COCO(shapes / "annotations" / "instances_train2017.json")
    capsys.readouterr()
    assert {item["id"]: item["name"] for item in coco.loadCats(coco.getCatIds())} == CATEGORIES
    assert len(coco.getImgIds()) == 40
    for category_id in CATEGORIES:
        assert coco.getAnnIds(catIds=[category_id]), CATEGORIES[category_id]
    empty = [i for i in coco.getImgIds() if not coco.getAnnIds(imgIds=[i])]
    assert len(empty) < 10
    train, val = set(coco.getImgIds()), {image["id"] for image in read(shapes, "val")["images"]}
    assert not train & val


def test_boxes_lie_inside_their_images(shapes):
    content = read(shapes, "train")
    images = {image["id"]: image for image in content["images"]}
    sizes = {(image["height"], image["width"]) for image in content["images"]}
    assert sizes == {(96, 128), (128, 96), (128, 128)}
    assert len({item["id"] for item in content["annotations"]}) == len(content["annotations"])
    for item in content["annotations"]:
        image = images[item["image_id"]]
        x, y, width, height = item["bbox"]
        assert x >= 0
        assert y >= 0
        assert width > 1
        assert height > 1
        assert x + width <= image["width"] + 1e-6
        assert y + height <= image["height"] + 1e-6
        assert item["area"] == pytest.approx(width * height, abs=0.01)


def test_a_complete_set_is_not_rewritten(shapes):
    before = {path: path.stat().st_mtime_ns for path in shapes.rglob("*.*")}
    write_shapes(shapes, train=40, val=6, image_size=128, seed=3)
    assert before == {path: path.stat().st_mtime_ns for path in shapes.rglob("*.*")}


def test_a_missing_image_is_written_again(tmp_path):
    write_shapes(tmp_path, train=2, val=1, image_size=64)
    lost = tmp_path / "train2017" / "shapes_000002.jpg"
    content = lost.read_bytes()
    lost.unlink()
    write_shapes(tmp_path, train=2, val=1, image_size=64)
    assert lost.read_bytes() == content


def test_other_parameters_do_not_overwrite(shapes):
    with pytest.raises(FileExistsError, match=r"instances_train2017\.json.*choose another folder"):
        write_shapes(shapes, train=40, val=6, image_size=128, seed=5)


@pytest.mark.parametrize("content", ['{"images": []}', '{"info": null}', "[]", "{", ""])
def test_another_data_set_is_not_overwritten(tmp_path, content):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(content)
    with pytest.raises(FileExistsError, match="another data set"):
        write_shapes(tmp_path, train=1, val=1)
    assert not (tmp_path / "train2017").exists()


@pytest.mark.parametrize("wrong", [{"train": 0}, {"val": 0}, {"image_size": 63}])
def test_sizes_are_checked(tmp_path, wrong):
    with pytest.raises(ValueError, match="shapes need"):
        write_shapes(tmp_path, **wrong)


def test_square_by_hand():
    contours = outline("square", (100.0, 80.0), 40.0)
    assert outline_box(contours, 240, 320) == (80.0, 60.0, 120.0, 100.0)


def test_square_rotated_by_an_eighth_is_wider_by_the_root_of_two():
    half = round(20 * math.sqrt(2), 2)
    box = outline_box(outline("square", (100.0, 80.0), 40.0, turn=math.pi / 4), 240, 320)
    assert box == (100 - half, 80 - half, 100 + half, 80 + half)


def test_squeeze_narrows_along_its_tilt():
    flat = outline("square", (100.0, 80.0), 40.0, squeeze=0.5)
    assert outline_box(flat, 240, 320) == (90.0, 60.0, 110.0, 100.0)
    upright = outline("square", (100.0, 80.0), 40.0, squeeze=0.5, tilt=math.pi / 2)
    assert outline_box(upright, 240, 320) == (80.0, 70.0, 120.0, 90.0)


def test_box_is_clipped_to_the_image():
    assert outline_box(outline("square", (310.0, 5.0), 40.0), 240, 320) == (290, 0, 320, 25)


def test_unknown_outline():
    with pytest.raises(ValueError, match="'heart'"):
        outline("heart", (0.0, 0.0), 1.0)


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("square", 4.0),
        ("disc", math.pi),
        ("triangle", 3 * math.sqrt(3) / 4),
        ("ring", math.pi * (1 - 0.58**2)),
        ("cross", 4 - 4 * 0.66**2),
    ],
)
def test_inside_has_the_area_of_the_figure(name, area):
    contours = outline(name, (0.0, 0.0), 2.0)
    grid = np.stack(np.meshgrid(*[(np.arange(400) + 0.5) / 200 - 1] * 2), axis=-1).reshape(-1, 2)
    assert contains(contours, grid).mean() * 4 == pytest.approx(area, rel=0.005)


def test_ring_has_a_hole():
    ring = outline("ring", (10.0, 10.0), 10.0)
    points = np.array([(10.0, 10.0), (14.0, 10.0), (10.0, 6.0), (15.5, 10.0)])
    assert contains(ring, points).tolist() == [False, True, True, False]


def test_visible_share_counts_covers_and_the_edge():
    points = sample(outline("square", (50.0, 50.0), 40.0))
    right_half = outline("square", (80.0, 50.0), 60.0)
    assert visible_share(points, [], 100, 100) == 1.0
    assert visible_share(points, [right_half], 100, 100) == 0.5
    assert visible_share(points, [right_half, right_half], 100, 100) == 0.5
    assert visible_share(points, [], 50, 100) == 0.5
    through_the_hole = outline("ring", (50.0, 50.0), 200.0)
    assert visible_share(points, [through_the_hole], 100, 100) == 1.0


def test_filled_square_covers_its_box():
    mask = fill_outline(outline("square", (20.0, 12.0), 10.0), 0, 0, 40, 30)
    expected = np.zeros((30, 40), np.uint8)
    expected[7:17, 15:25] = 255
    # OpenCV fills the sub-pixels that an edge touches, too: at most two of four beyond it
    assert np.abs(mask.astype(int) - expected).max() <= 128
    assert mask[7:17, 15:25].min() == 255
    assert mask.sum() / 255 == pytest.approx(100, rel=0.06)
