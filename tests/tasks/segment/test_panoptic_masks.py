"""Masks of COCO's panoptic annotations: ids by hand, bad entries and files."""

import json

import numpy as np
import PIL.Image
import pytest

from igcv3det.cli import make_masks
from igcv3det.tasks.segment.masks import read_mask
from igcv3det.tasks.segment.sources import MaskSource

# 5 + 256 * 2 + 65536 * 1, 256 * 1, and no segment
IDS = np.array([[[5, 2, 1], [0, 1, 0], [0, 0, 0]], [[5, 2, 1], [5, 2, 1], [0, 1, 0]]], np.uint8)
ROAD, CAR = {"id": 66053, "category_id": 100}, {"id": 256, "category_id": 3}


@pytest.fixture
def call(tmp_path):
    """Writes a data set of one image; returns the words of a call."""

    def write(segments=(ROAD, CAR), ids=IDS, **changes):
        images, folder = tmp_path / "train2017", tmp_path / "panoptic"
        for path in (images, folder):
            path.mkdir(exist_ok=True)
        PIL.Image.new("RGB", (3, 2)).save(images / "a.jpg")
        if ids is not None:
            PIL.Image.fromarray(ids).save(folder / "a.png")
        annotation = {"image_id": 1, "file_name": "a.png", "segments_info": list(segments)}
        content = {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 2, "width": 3}],
            "annotations": [annotation],
            "categories": [{"id": 100, "name": "road"}, {"id": 3, "name": "car"}],
        }
        (tmp_path / "panoptic.json").write_text(json.dumps({**content, **changes}))
        return ["--annotations", str(tmp_path / "panoptic.json"), "--images", str(images)]

    return write


def test_ids_become_labels_of_categories(call, tmp_path, capsys):
    assert make_masks.main(call()) == 0
    found = read_mask(tmp_path / "train2017_labels" / "a.png")
    assert found.tolist() == [[1, 0, 255], [1, 1, 0]]  # car is 0: its category id is lower
    assert MaskSource(tmp_path).table.names == ["car", "road"]
    assert "1 masks, 2 labels" in capsys.readouterr().out


def test_an_image_without_annotation_is_ignored(call, tmp_path):
    other = {"image_id": 2, "file_name": "b.png", "segments_info": []}
    assert make_masks.main(call(annotations=[other])) == 0
    assert np.unique(read_mask(tmp_path / "train2017_labels" / "a.png")).tolist() == [255]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"segments": [CAR]}, "panoptic/a.png: segment 66053 is not in"),
        ({"segments": [CAR, {**ROAD, "category_id": 7}]}, "of a.png: unknown category 7"),
        ({"segments": [{"id": 1}]}, "panoptic.json: an entry lacks 'category_id'"),
        ({"ids": None}, "panoptic/a.png: no such file"),
        ({"ids": IDS[..., 0]}, "panoptic/a.png: an L image; ids of segments are RGB"),
        ({"ids": IDS[:1]}, "panoptic/a.png: 3 x 1 pixels, its image 3 x 2"),
        ({"categories": [{"id": 3, "name": "car"}]}, "has 1 categories, masks can have 2 to 254"),
    ],
    ids=["segment", "category", "entry", "no file", "grey", "size", "categories"],
)
def test_what_cannot_be_used_is_named(call, capsys, changes, message):
    assert make_masks.main(call(**changes)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_the_folder_of_the_ids(call, tmp_path, capsys):
    assert make_masks.main([*call(), "--panoptic", str(tmp_path / "absent")]) == 1
    assert "absent: no such folder of panoptic PNG files" in capsys.readouterr().err
