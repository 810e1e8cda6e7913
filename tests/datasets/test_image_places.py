"""Which folder's images an annotation file means, where splits number their images alike."""

import numpy as np
import PIL.Image
import pytest
from coco_files import coco, write_json

from igcv3det.datasets.dataset import Dataset
from igcv3det.datasets.issues import AnnotationError
from igcv3det.io.images import read_image

LEVELS = {"train": 50, "val": 200}
NAMES = ("0000.png", "0001.png")


def _write_images(folder, level):
    folder.mkdir(parents=True)
    for name in NAMES:
        PIL.Image.fromarray(np.full((24, 32, 3), level, np.uint8)).save(folder / name)


def _write_coco(path):
    path.parent.mkdir(exist_ok=True)
    images = [{"id": n, "file_name": m, "width": 32, "height": 24} for n, m in enumerate(NAMES)]
    write_json(path, coco([], [(0, 1, [5, 5, 9, 9])]) | {"images": images})


def _write_csv(path):
    path.write_text(
        "image,xmin,ymin,xmax,ymax,label\n" + "".join(f"{n},1,1,9,9,a\n" for n in NAMES)
    )


def _write_cvat(path):
    images = "".join(
        f'<image name="{name}" subset="{subset}" width="32" height="24"/>'
        for subset in ("Train", "Validation")
        for name in NAMES
    )
    path.write_text(f"<annotations><version>1.1</version>{images}</annotations>")


LAYOUTS = {
    "csv": (_write_csv, ("train.csv", "val.csv"), ("train", "val")),
    "csv, a folder of another name": (_write_csv, ("train.csv", "val.csv"), ("train", "other")),
    "coco beside folders": (_write_coco, ("train.json", "val.json"), ("train", "val")),
    "coco, folders with a year": (
        _write_coco,
        ("annotations/instances_train.json", "annotations/instances_val.json"),
        ("train2017", "val2017"),
    ),
    "coco, another word for the split": (
        _write_coco,
        ("annotations/instances_train.json", "annotations/instances_valid.json"),
        ("train", "val"),
    ),
    "coco, folders in images": (
        _write_coco,
        ("annotations/train.json", "annotations/val.json"),
        ("images/train2017", "images/val2017"),
    ),
    "cvat": (_write_cvat, ("annotations.xml",), ("images/Train", "images/Validation")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_split_has_the_images_of_its_own_folder(tmp_path, layout):
    write, files, folders = LAYOUTS[layout]
    for level, folder in zip(LEVELS.values(), folders, strict=True):
        _write_images(tmp_path / folder, level)
    for file in files:
        write(tmp_path / file)
    data = Dataset(tmp_path)
    assert data.splits == ["train", "val"]
    for split, level in LEVELS.items():
        record, folder = data.read(split)
        pixels = [read_image(folder / entry.file_name) for entry in record.images]
        assert len(pixels) == 2
        assert all((image == level).all() for image in pixels)


def test_a_folder_of_the_split_with_one_of_the_names_is_not_that_of_all(tmp_path, caplog):
    _write_images(tmp_path / "images", 120)
    _write_images(tmp_path / "train", 50)
    (tmp_path / "train" / NAMES[1]).unlink()
    _write_coco(tmp_path / "annotations" / "instances_train.json")
    assert Dataset(tmp_path).read("train")[1] == tmp_path / "images"
    # only another split has them
    _write_coco(tmp_path / "annotations" / "instances_val.json")
    for name in NAMES:
        (tmp_path / "images" / name).unlink()
    assert Dataset(tmp_path).read("val")[1] == tmp_path / "train"
    assert "its images are taken from" in caplog.text


def test_a_file_that_is_given_alone_says_its_split_by_its_name(tmp_path):
    for split, level in LEVELS.items():
        _write_images(tmp_path / split, level)
    _write_csv(tmp_path / "boxes_val.csv")
    record, folder = Dataset(tmp_path / "boxes_val.csv").read("all")
    assert (read_image(folder / record.images[0].file_name) == LEVELS["val"]).all()


@pytest.mark.parametrize("write", [_write_csv, _write_coco], ids=["csv", "coco"])
def test_a_file_of_no_split_whose_names_are_in_two_is_refused(tmp_path, write):
    for split, level in LEVELS.items():
        _write_images(tmp_path / split, level)
    file = tmp_path / ("labels.csv" if write is _write_csv else "labels.json")
    write(file)
    with pytest.raises(AnnotationError, match=r"labels\..*: several folders .*train, .*val\): put"):
        Dataset(file).read("all")


def test_a_name_that_no_file_can_have_is_one_missing_image(tmp_path):
    _write_images(tmp_path / "images", 9)
    names = ["0000.png", "b" * 300 + ".png"]
    images = [{"id": n, "file_name": m, "width": 32, "height": 24} for n, m in enumerate(names)]
    file = write_json(tmp_path / "a.json", coco([], [(0, 1, [5, 5, 9, 9])]) | {"images": images})
    record, folder = Dataset(file).read("all")
    assert folder == tmp_path / "images"
    assert len(record.images) == 2


@pytest.mark.parametrize("write", [_write_cvat, _write_coco], ids=["cvat", "coco"])
def test_the_images_of_another_data_set_beside_are_not_taken(tmp_path, write, caplog):
    own = tmp_path / "mine"
    _write_images(own / "photos", 50)
    _write_images(tmp_path / "other", 200)
    (own / "photos" / NAMES[1]).unlink()  # the other one has more of the names
    file = own / ("all.json" if write is _write_coco else "annotations.xml")
    write(file)
    assert Dataset(own).read("train" if write is _write_cvat else "all")[1] == own / "photos"
    (own / "photos" / NAMES[0]).unlink()
    (tmp_path / "other" / "annotations.xml").write_text("<annotations/>")
    assert Dataset(own).read("train" if write is _write_cvat else "all")[1] == own


def test_most_of_the_images_may_be_missing(tmp_path):
    names = [f"{number:04}.png" for number in range(5000)]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / names[4321]).touch()
    images = [{"id": n, "file_name": m, "width": 32, "height": 24} for n, m in enumerate(names)]
    file = write_json(tmp_path / "a.json", coco([], [(0, 1, [5, 5, 9, 9])]) | {"images": images})
    assert Dataset(file).read("all")[1] == tmp_path  # of 200 names none is there
    for name in names[100:120]:
        (tmp_path / "photos" / name).touch()
    assert Dataset(file).read("all")[1] == tmp_path / "photos"


def test_cvat_in_folders_of_splits_ignores_subsets(tmp_path):
    for folder, name in (("train", "a.png"), ("val", "b.png")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "annotations.xml").write_text(
            f'<annotations><version>1.1</version><image name="{name}" subset="Train" width="32" '
            'height="24"/></annotations>'
        )
        PIL.Image.new("RGB", (32, 24)).save(tmp_path / folder / name)
    data = Dataset(tmp_path)
    for split, name in (("train", "a.png"), ("val", "b.png")):
        record, folder = data.read(split)
        assert [entry.file_name for entry in record.images] == [name]
        assert folder == tmp_path / split
