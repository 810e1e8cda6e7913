"""Listing labelled images: classes, splits, and the errors of wrong layouts."""

import os
import shutil

import pytest
from image_folders import CLASSES, write_folder, zip_folder

from igcv3det.io.images import ImageReadError
from igcv3det.tasks.classify.sources import (
    DataError,
    list_split,
    require_same_classes,
    validation_split,
)


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "set")


@pytest.fixture(params=["folder", "zip"])
def root(request, folder, tmp_path):
    return folder if request.param == "folder" else zip_folder(folder, tmp_path / "set.zip")


def test_classes_are_sorted_and_images_labelled(root):
    split = list_split(root, "train")
    assert split.names == CLASSES
    assert split.labels == (0,) * 4 + (1,) * 4 + (2,) * 4
    assert all(CLASSES[n] in path for n, path in zip(split.labels, split.paths, strict=True))


def test_a_zip_gives_the_same_images_as_its_folder(folder, tmp_path):
    archive = list_split(zip_folder(folder, tmp_path / "set.zip"), "test")
    pairs = zip(list_split(folder, "test").read_all(), archive.read_all(), strict=True)
    assert all((one == other).all() for one, other in pairs)


def test_the_root_itself_can_be_a_split(folder):
    assert list_split(folder / "train", ".").names == CLASSES


@pytest.mark.parametrize(
    ("splits", "wanted", "found"),
    [
        (("train", "test"), None, "test"),
        (("val", "test"), None, "val"),
        (("val", "mine"), "mine", "mine"),
    ],
)
def test_validation_split(tmp_path, splits, wanted, found):
    root = write_folder(tmp_path / "x", splits)
    assert validation_split(root, wanted) == found
    assert validation_split(zip_folder(root, tmp_path / "x.zip"), wanted) == found


def test_no_validation_split(tmp_path):
    with pytest.raises(DataError, match=r"neither a 'val' nor a 'test' split, but \['train'\]"):
        validation_split(write_folder(tmp_path / "x", ("train",)))


def test_missing_split_is_named(root):
    with pytest.raises(DataError, match=r"set.*has no split 'valid', but \['test', 'train'\]"):
        list_split(root, "valid")


def test_empty_class_is_named(folder, tmp_path):
    (folder / "train" / "newt" / "notes.txt").write_text("no image")
    for image in (folder / "train" / "newt").glob("*.png"):
        image.unlink()
    for root in (folder, zip_folder(folder, tmp_path / "set.zip")):
        with pytest.raises(DataError, match="class 'newt' of split 'train' has no images"):
            list_split(root, "train")


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="1 class folders"):
        list_split(write_folder(tmp_path / "x", classes=("cat",)), "train")


def test_different_classes_are_named(folder):
    shutil.rmtree(folder / "test" / "dog")
    train, test = list_split(folder, "train"), list_split(folder, "test")
    for pair in ((train, test), (test, train)):
        with pytest.raises(DataError, match=r"split 'test' lacks 1 classes.*\['dog'\]"):
            require_same_classes(*pair)


def test_missing_root(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        list_split(tmp_path / "absent", "train")
    with pytest.raises(FileNotFoundError, match=r"absent\.zip"):
        list_split(tmp_path / "absent.zip", "train")


def test_damaged_zip(tmp_path):
    (tmp_path / "broken.zip").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"broken\.zip: not a readable zip"):
        list_split(tmp_path / "broken.zip", "train")


def test_split_in_two_folders_of_a_zip(folder, tmp_path):
    two = tmp_path / "two"
    shutil.copytree(folder, two / "a")
    shutil.copytree(folder, two / "b")
    with pytest.raises(DataError, match=r"several folders: \['set/a', 'set/b'\]"):
        list_split(zip_folder(two, tmp_path / "two.zip"), "train")


def test_the_fingerprint_depends_on_the_content(root, tmp_path):
    again = list_split(root, "train").fingerprint
    assert again == list_split(root, "train").fingerprint
    assert again != list_split(root, "test").fingerprint


def test_a_link_to_nothing_is_named_when_it_is_read_and_names_may_have_any_bytes(folder):
    first, second, *_ = sorted((folder / "train" / CLASSES[0]).iterdir())
    first.rename(first.with_name(os.fsdecode(b"caf\xe9.png")))
    split = list_split(folder, "train")
    assert len(list(split.read_all())) == len(split)
    second.unlink()
    second.symlink_to("nowhere.png")
    split = list_split(folder, "train")
    with pytest.raises(ImageReadError, match=f"{second.name}: no such file"):
        list(split.read_all())
