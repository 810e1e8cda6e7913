"""The cache of decoded images: read again, keyed by content, never incomplete."""

import os

import numpy as np
import pytest
import torch
import torchvision
from image_folders import CLASSES, write_folder, zip_folder

from igcv3det.io.images import ImageReadError, read_image, write_image
from igcv3det.tasks.classify import store as stores
from igcv3det.tasks.classify.sources import DataError, list_split
from igcv3det.tasks.classify.store import load_store, square, torchvision_store


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path / "set")


def test_pixels_and_labels_of_the_files(folder):
    split = list_split(folder, "train")
    store = load_store(split, 32, None)
    assert store.images.dtype == torch.uint8
    assert store.labels.tolist() == list(split.labels)
    assert (store.images[5].numpy() == read_image(folder / split.paths[5])).all()
    assert store.names == CLASSES


def test_the_second_load_decodes_nothing(folder, tmp_path, monkeypatch):
    split = list_split(zip_folder(folder, tmp_path / "set.zip"), "train")
    first = load_store(split, 32, tmp_path / "cache")
    monkeypatch.setattr(stores, "square", None)
    again = load_store(split, 32, tmp_path / "cache")
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert again.names == first.names
    files = sorted((tmp_path / "cache").iterdir())  # nothing half-written is left
    assert [file.suffix for file in files] == [".json", ".npy"]
    assert all(file.name.startswith("set-train-32px-") for file in files)


def test_a_changed_image_is_decoded_again(folder, tmp_path):
    before = load_store(list_split(folder, "train"), 32, tmp_path / "cache")
    image = folder / "train" / "cat" / "0.png"
    write_image(image, np.full((32, 32, 3), 9, np.uint8))
    os.utime(image, ns=(1, 1))
    after = load_store(list_split(folder, "train"), 32, tmp_path / "cache")
    assert (after.images[0] == 9).all()
    assert torch.equal(before.images[1:], after.images[1:])


def test_a_damaged_cache_is_replaced(folder, tmp_path, caplog):
    split = list_split(folder, "train")
    first = load_store(split, 32, tmp_path / "cache")
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:100] if file.suffix == ".npy" else b"[]")
        caplog.clear()
        assert torch.equal(load_store(split, 32, tmp_path / "cache").images, first.images)
        assert "damaged" in caplog.text
    caplog.clear()
    assert torch.equal(load_store(split, 32, tmp_path / "cache").images, first.images)
    assert caplog.text == ""


def test_unreadable_image_is_named_and_leaves_no_cache(folder, tmp_path):
    (folder / "train" / "dog" / "2.png").write_bytes(b"no image")
    for root in (folder, zip_folder(folder, tmp_path / "set.zip")):
        with pytest.raises(ImageReadError, match=r"dog/2\.png"):
            load_store(list_split(root, "train"), 32, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (64, 40), (20, 30), (7, 3)])
def test_square_is_the_central_crop(size):
    rows = np.linspace(0, 250, size[0])[:, None, None] * np.ones((1, size[1], 3))
    cut = square(rows.astype(np.uint8), 32)
    assert cut.shape == (32, 32, 3)
    assert abs(float(cut.mean()) - 125) < 6  # a ramp's middle
    if size == (32, 48):
        whole = np.arange(32 * 48 * 3).reshape(32, 48, 3).astype(np.uint8)
        assert (square(whole, 32) == whole[:, 8:40]).all()


def test_subset(folder):
    store = load_store(list_split(folder, "train"), 32, None)
    assert store.only(range(12)) is store
    assert torch.equal(store.only([1, 5]).images, store.images[[1, 5]])
    assert store.only([1, 5]).labels.tolist() == [0, 1]


def test_missing_cifar(tmp_path):
    with pytest.raises(DataError, match=r"cifar10 is missing or incomplete.*--data\.download true"):
        torchvision_store("cifar10", tmp_path, train=True)


def test_torchvisions_cifar(tmp_path, monkeypatch):
    class Fake:
        classes = ("a", "b")

        def __init__(self, root, train, download):
            self.data = np.full((3, 32, 32, 3), 7 if train else 8, np.uint8)
            self.targets = [0, 1, 1]

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Fake)
    store = torchvision_store("cifar100", tmp_path, train=False)
    assert store.labels.tolist() == [0, 1, 1]
    assert (store.images == 8).all()
    assert store.names == ("a", "b")
