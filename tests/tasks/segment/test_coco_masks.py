"""Masks of COCO instances: figures by hand, formats of segmentations, bad entries."""

import json
import shutil

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask

from igcv3det.cli import make_masks
from igcv3det.tasks.segment.coco_masks import draw_instances, read_instances
from igcv3det.tasks.segment.masks import read_mask
from igcv3det.tasks.segment.sources import MaskSource

SIZE = (10, 12)


def square(left, top, side):
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def code(area, *, compressed):
    encoded = coco_mask.encode(np.asfortranarray(area.astype(np.uint8)))
    if compressed:
        return {"size": list(area.shape), "counts": encoded["counts"].decode()}
    flat = area.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, len(flat)]).tolist()
    return {"size": list(area.shape), "counts": runs if flat[0] == 0 else [0, *runs]}


def write(folder, instances, **changes):
    images = folder / "train2017"
    images.mkdir(exist_ok=True)
    PIL.Image.new("RGB", SIZE[::-1]).save(images / "a.png")
    content = {
        "images": [{"id": 5, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [{"id": n, "image_id": 5, **one} for n, one in enumerate(instances, 1)],
        "categories": [{"id": 30, "name": "cat"}, {"id": 7, "name": "mat"}],
    }
    path = folder / "instances.json"
    path.write_text(json.dumps({**content, **changes}))
    return ["--annotations", str(path), "--images", str(images)]


def test_masks_lie_in_folders_as_their_images_do(tmp_path, capsys):
    call = write(tmp_path, [])
    entries = []
    for number, name in enumerate(("a/1.png", "b/1.png"), 1):
        (tmp_path / "train2017" / name).parent.mkdir()
        shutil.copy(tmp_path / "train2017" / "a.png", tmp_path / "train2017" / name)
        entries.append({"id": number, "file_name": name})
    instances = [
        {"id": number, "image_id": number, "category_id": 7, "segmentation": [square(0, 0, number)]}
        for number in (1, 2)
    ]
    call = write(tmp_path, [], images=entries, annotations=instances)
    (tmp_path / "train2017" / "a.png").unlink()
    assert make_masks.main(call) == 0
    samples = MaskSource(tmp_path).read("train")
    assert [int(read_mask(sample.mask).sum()) for sample in samples] == [1, 4]


def test_two_images_of_one_mask_are_refused(tmp_path, capsys):
    write(tmp_path, [])
    shutil.copy(tmp_path / "train2017" / "a.png", tmp_path / "train2017" / "a.jpg")
    entries = [{"id": n, "file_name": name} for n, name in enumerate(("a.png", "a.jpg"))]
    assert make_masks.main(write(tmp_path, [], images=entries)) == 1
    assert "a.png and a.jpg would have the same mask a.png: rename" in capsys.readouterr().err
    assert not (tmp_path / "train2017_labels").exists()


@pytest.mark.parametrize("name", ["../a.png", "/a.png"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, capsys, name):
    entries = [{"id": 0, "file_name": name}]
    assert make_masks.main(write(tmp_path, [], images=entries)) == 1
    error = capsys.readouterr().err
    assert f"'{name}' is absolute or leads out" in error
    assert "--allow-outside" not in error  # which this command does not have


def test_masks_of_linked_images_are_beside_the_link(tmp_path):
    write(tmp_path, [])
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "train").symlink_to(tmp_path / "train2017")
    call = ["--annotations", str(tmp_path / "instances.json")]
    assert make_masks.main([*call, "--images", str(tmp_path / "link" / "train")]) == 0
    assert len(MaskSource(tmp_path / "link").read("train")) == 1


def test_smaller_instances_are_on_top(tmp_path, capsys):
    mat = {"category_id": 7, "segmentation": [square(2, 1, 8)]}
    cat = {"category_id": 30, "segmentation": [square(4, 3, 2), square(7, 6, 1)]}
    call = write(tmp_path, [cat, mat])
    assert make_masks.main(call) == 0
    expected = np.zeros(SIZE, int)
    expected[1:9, 2:10] = 1  # mat, whose id comes first
    expected[3:5, 4:6] = 2
    expected[6, 7] = 2
    assert read_mask(tmp_path / "train2017_labels" / "a.png").tolist() == expected.tolist()
    source = MaskSource(tmp_path)
    assert source.splits == ["train2017"]
    assert len(source.read("train")) == 1
    assert source.table.names == ["background", "mat", "cat"]
    assert "1 masks, 3 labels" in capsys.readouterr().out
    assert make_masks.main(call) == 1
    assert "train2017_labels: holds something" in capsys.readouterr().err


@pytest.mark.parametrize("compressed", [True, False])
def test_run_length_codes(tmp_path, compressed):
    area = np.random.default_rng(0).random(SIZE) < 0.4
    annotation = {"category_id": 30, "segmentation": code(area, compressed=compressed)}
    write(tmp_path, [annotation])
    masks = read_instances(tmp_path / "instances.json")
    assert draw_instances(masks, masks.instances[5], SIZE).tolist() == (2 * area).tolist()


@pytest.mark.parametrize(
    ("annotation", "changes", "message"),
    [
        ({"category_id": 8, "segmentation": [square(1, 1, 2)]}, {}, "annotation 1: unknown categ"),
        ({"category_id": 7}, {}, "annotation 1: no segmentation that can be drawn"),
        ({"category_id": 7, "segmentation": [[1, 2, 3, 4]]}, {}, "a polygon needs three corners"),
        ({"category_id": 7, "segmentation": []}, {}, "a polygon needs three corners"),
        (
            {"category_id": 7, "segmentation": code(np.ones((4, 5), bool), compressed=True)},
            {},
            "its segmentation is 5 x 4 pixels, the image 12 x 10",
        ),
        ({}, {"categories": {}}, "expects COCO JSON with the lists"),
        ({}, {"categories": []}, "has 0 categories"),
        ({}, {"images": [{"id": 5}]}, "an entry lacks 'file_name'"),
        ({}, {"images": [{"id": 5, "file_name": "b.png"}], "annotations": []}, "b.png: no such fi"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_entries(tmp_path, capsys, annotation, changes, message):
    assert make_masks.main(write(tmp_path, [annotation], **changes)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("make-masks: ")
    assert message in line


@pytest.mark.parametrize("wrong", [float("inf"), float("nan"), 1e9, -1e300])
def test_corners_that_no_image_has(tmp_path, capsys, wrong):
    polygon = [*square(0, 0, 4), wrong, 3]
    call = write(tmp_path, [{"category_id": 30, "segmentation": [polygon]}])
    assert make_masks.main([*call, "--output", str(tmp_path / "out")]) == 1
    assert "annotation 1: no segmentation that can be drawn" in capsys.readouterr().err


def test_a_category_without_a_name_is_named_by_its_id(tmp_path):
    call = write(tmp_path, [], categories=[{"id": 30, "name": None}, {"id": 7}])
    assert make_masks.main([*call, "--output", str(tmp_path / "out")]) == 0
    assert (tmp_path / "classes.txt").read_text().split() == ["background", "7", "30"]


@pytest.mark.parametrize("names", [("a\nb", "c"), ("", "c"), ("c", "c"), ("background", "c")])
def test_names_that_a_list_cannot_hold(tmp_path, capsys, names):
    categories = [{"id": number, "name": name} for number, name in enumerate(names, 1)]
    call = write(tmp_path, [], categories=categories)
    assert make_masks.main([*call, "--output", str(tmp_path / "out")]) == 1
    assert f"category {names[0]!r}: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
