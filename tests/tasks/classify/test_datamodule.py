"""Batches from memory and from files: images, order, augmentation."""

import itertools

import numpy as np
import pytest
import torch
from image_folders import CLASSES, write_folder, zip_folder

from igcv3det.io.images import ImageReadError, read_image
from igcv3det.shapes.classification import NAMES
from igcv3det.tasks.classify.datamodule import ClassificationDataModule
from igcv3det.tasks.classify.sources import DataError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "set", per_class=5)


def data(root, **options):
    given = {"cache": None, "batch_size": 4, "num_workers": 0}
    return ClassificationDataModule(str(root), **(given | options))


@pytest.mark.parametrize("options", [{}, {"in_memory": False}], ids=["memory", "files"])
def test_each_epoch_has_every_image_once_in_another_order(folder, options):
    loader = data(folder, batch_size=5, **options).train_dataloader()
    epochs = [[batch.indices for batch in loader] for _ in range(2)]
    orders = [np.concatenate(epoch).tolist() for epoch in epochs]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(15))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("options", [{}, {"in_memory": False}], ids=["memory", "files"])
def test_validation_is_in_order_without_augmentation(folder, options):
    module = data(folder, image_size=32 if not options else 28, **options)
    batches = list(module.val_dataloader())
    assert [len(batch.labels) for batch in batches] == [4, 4, 4, 3]
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0] * 5 + [1] * 5 + [2] * 5
    first = read_image(folder / "test" / "cat" / "0.png")
    shown = first if not options else first[2:30, 2:30]  # the central crop is 28 of 32
    assert (batches[0].images[0].numpy() == shown).all()
    assert batches[0].crop_flips is None


def test_the_same_seed_gives_the_same_batches_also_after_a_resume(folder):
    def batches(seed):
        loader = data(folder, seed=seed).train_dataloader()
        return list(itertools.chain(loader, loader))

    one, two, other = batches(0), batches(0), batches(1)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.crop_flips, b.crop_flips)
    assert any(not torch.equal(a.labels, b.labels) for a, b in zip(one, other, strict=True))
    loader = data(folder).train_dataloader()
    loader.load_state_dict({"epoch": 1, "done": 2})
    (last,) = loader
    assert torch.equal(last.images, one[-1].images)
    assert torch.equal(last.crop_flips, one[-1].crop_flips)


def test_crops_from_files_depend_on_seed_epoch_and_image(folder):
    def batches(seed):
        loader = data(folder, in_memory=False, seed=seed, batch_size=15).train_dataloader()
        (batch,) = loader
        return batch.images[np.argsort(batch.indices)]

    assert torch.equal(batches(0), batches(0))
    assert not torch.equal(batches(0), batches(1))


def test_a_limited_validation_covers_all_classes(folder):
    (batch,) = data(folder, val_limit=3).val_dataloader()
    assert batch.labels.tolist() == [0, 1, 2]
    (batch,) = data(folder, val_limit=3, in_memory=False).val_dataloader()
    assert batch.labels.tolist() == [0, 1, 2]


def test_class_names(folder, tmp_path):
    assert data(folder).names == CLASSES
    assert data(zip_folder(folder, tmp_path / "a.zip")).names == CLASSES
    shapes = ClassificationDataModule(source="shapes", drawn=(12, 6))
    assert shapes.names == NAMES
    (batch,) = shapes.val_dataloader()
    assert batch.images.shape == (6, 32, 32, 3)


def test_few_images_make_small_batches(folder):
    (batch,) = data(folder, batch_size=99).train_dataloader()
    assert len(batch.labels) == 15


def test_fingerprints(folder, tmp_path):
    assert data(folder).fingerprint == data(folder).fingerprint
    assert data(folder).fingerprint != data(folder, val_split="train").fingerprint
    drawn = [ClassificationDataModule(source="shapes", drawn=(n, 6)).fingerprint for n in (6, 12)]
    assert drawn[0] != drawn[1]


def test_the_folder_of_cifar_is_recognised(tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    assert data(tmp_path).source == "cifar100"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch sizes must be >= 1"),
        ({"root": None}, "data.root is needed"),
        ({"root": "x.zip", "image_size": 224}, "unpack it"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClassificationDataModule(**({"root": "x"} | options))


def test_setup_finds_different_classes(tmp_path):
    write_folder(tmp_path / "set", ("test",))
    write_folder(tmp_path / "set", ("train",), classes=("cat", "dog"))
    with pytest.raises(DataError, match="'train' lacks 1 classes"):
        data(tmp_path / "set").setup("fit")


def test_an_unreadable_image_is_named(tmp_path):
    root = write_folder(tmp_path / "set")
    (root / "test" / "cat" / "0.png").write_bytes(b"none")
    with pytest.raises(ImageReadError, match=r"cat/0\.png"):
        list(data(root, in_memory=False).val_dataloader())
