import logging

import numpy as np
import pytest
import torch
from PIL import Image

from igcv3det.datasets.box_labels import ImageBoxes, write_labels
from igcv3det.structures import Categories
from igcv3det.tasks.distill.config import CropConfig
from igcv3det.tasks.distill.datamodule import DistillationDataModule


@pytest.fixture
def images(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def _datamodule(images, **changes):
    given = {"batch_size": 2, "held_out": 2, "seed": 0, **changes}
    cache = str(images.parent / "cache")
    data = DistillationDataModule(
        [str(images)], side=64, cache=cache, crop=CropConfig(size=32), **given
    )
    data.setup("fit")
    return data


def test_resuming_with_other_batches_is_reported(images, caplog):
    begun = _datamodule(images).state_dict()
    own = {"seed": 0, "batch_size": 2, "world_size": 1, "images": 4, "crops_per_image": 0}
    assert begun == own
    with caplog.at_level(logging.WARNING):
        same, other = _datamodule(images), _datamodule(images, batch_size=4)
        same.load_state_dict(begun)
        same.train_dataloader()
        assert caplog.text == ""
        other.load_state_dict(begun)
        other.train_dataloader()
    assert "another batch_size than the run was started with" in caplog.text


def test_fixed_crops_come_again_after_as_many_epochs_as_there_are(images):
    data = _datamodule(images, crops_per_image=2)
    keys = {epoch: [(epoch, 0), (epoch, 3)] for epoch in range(3)}
    rows = np.array([0, 3])
    first, second, third = (
        data.on_after_batch_transfer((data._pixels(rows), keys[epoch]), 0) for epoch in range(3)
    )
    assert [first.crops, second.crops, third.crops] == [[0, 3], [6, 9], [0, 3]]
    assert torch.equal(first.images, third.images)
    assert not torch.equal(first.images, second.images)
    # whatever the other images of its batch
    alone = data.on_after_batch_transfer((data._pixels(rows[1:]), keys[0][1:]), 0)
    assert torch.equal(alone.images[0], first.images[1])


def test_boxes_of_a_crop_are_the_same_without_its_image(images):
    categories = Categories(names=("a", "b"), ids=(1, 2))
    random = np.random.default_rng(1)
    boxes, sizes = {}, {}
    for path in images.iterdir():
        corners = torch.from_numpy(np.sort(random.random((5, 2, 2), np.float32), axis=1))
        labels = torch.from_numpy(random.integers(1, 3, 5))
        boxes[path.name] = ImageBoxes(corners.reshape(5, 4), labels, torch.full((5,), 0.5))
        sizes[path.name] = (50, 40)
    path = images.parent / "boxes.json"
    write_labels(path, boxes, sizes, categories)
    data = _datamodule(images, crops_per_image=2, boxes=(str(path),), categories=categories)
    rows = np.array([0, 3, 4])
    batch = data._pixels(rows), [(1, row) for row in rows.tolist()]
    whole = data.on_after_batch_transfer(batch, 0)
    data.is_needless = lambda crops: True
    without = data.on_after_batch_transfer(batch, 0)
    assert without.images.shape == (3, 3, 0, 0)
    assert without.crops == whole.crops
    assert sum(len(target.boxes) for target in whole.targets) > 0
    for one, other in zip(whole.targets, without.targets, strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("score", [1.0, 0.5])
def test_annotated_boxes_have_no_scores(images, score):
    """Softmax and focal losses take boxes without scores only."""
    categories, label = Categories(names=("a",), ids=(1,)), torch.ones(1, dtype=torch.int64)
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    boxes = {path.name: ImageBoxes(whole, label, torch.ones(1)) for path in images.iterdir()}
    boxes["3.png"] = ImageBoxes(whole, label, torch.tensor([score]))
    path = images.parent / "boxes.json"
    write_labels(path, boxes, dict.fromkeys(boxes, (50, 40)), categories)
    data = _datamodule(images, boxes=(str(path),), categories=categories)
    rows = np.arange(6)
    batch = data._pixels(rows), [(0, row) for row in range(6)]
    scores = [target.scores for target in data.on_after_batch_transfer(batch, 0).targets]
    if score == 1:
        assert scores == [None] * 6
    else:
        assert torch.cat(scores).unique().tolist() == [0.5, 1.0]  # some are cut off


def test_too_few_images_are_refused(images):
    with pytest.raises(ValueError, match="6 images are too few"):
        _datamodule(images, held_out=5)
    with pytest.raises(ValueError, match=r"data\.crops_per_image must be >= 0, got -1"):
        _datamodule(images, crops_per_image=-1)


def _written_boxes(path, names):
    none = ImageBoxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))
    write_labels(
        path, dict.fromkeys(names, none), dict.fromkeys(names, (50, 40)), Categories((1,), ("cat",))
    )
    return str(path)


def test_two_files_with_boxes_of_one_image_are_refused(images, tmp_path):
    names = [f"{number}.png" for number in range(6)]
    files = (
        _written_boxes(tmp_path / "first.json", names[:4]),
        _written_boxes(tmp_path / "second.json", names[3:]),
    )
    with pytest.raises(ValueError, match=r"3\.png is in .*second\.json and in another"):
        _datamodule(images, boxes=files, categories=Categories((1,), ("cat",)))


def test_images_of_one_name_cannot_have_boxes(images, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (images / "3.png").rename(other / "2.png")
    names = ("0.png", "1.png", "2.png", "4.png", "5.png")
    boxes = _written_boxes(tmp_path / "boxes.json", names)
    data = DistillationDataModule(
        [str(images), str(other)],
        boxes=(boxes,),
        side=64,
        cache=str(tmp_path / "cache"),
        batch_size=2,
        held_out=2,
        crop=CropConfig(size=32),
        categories=Categories((1,), ("cat",)),
    )
    with pytest.raises(ValueError, match=r"2\.png is in two of data\.folders"):
        data.setup("fit")


@pytest.mark.parametrize("count", [0, -1])
def test_no_image_held_out(images, count):
    with pytest.raises(ValueError, match=f"data.held_out must be >= 1, got {count}"):
        _datamodule(images, held_out=count)
