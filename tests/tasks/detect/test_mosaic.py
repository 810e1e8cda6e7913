import numpy as np
import pytest
import torch
from synthetic import write_coco

from igcv3det.config import AugmentConfig
from igcv3det.tasks.detect.datamodule import CocoDataModule
from igcv3det.tasks.detect.mosaic import Mosaic
from igcv3det.tasks.detect.transforms import Example

SIDE = 40


def examples():
    """Four images of other sizes, each with an object of its own colour and label, and a crowd."""
    made = []
    for label, (height, width) in enumerate([(40, 40), (80, 60), (30, 100), (50, 20)], start=1):
        image = np.full((height, width, 3), 10, dtype=np.uint8)
        box = np.array([0.25 * width, 0.2 * height, 0.75 * width, 0.8 * height], np.float32)
        left, top, right, bottom = box.round().astype(int)
        image[top:bottom, left:right] = 50 * label
        made.append(Example(image, np.stack([box, box]), np.array([label, 0])))
    return made


def joined(index, probability=1.0, seed=0):
    made = examples()
    numbers = []

    def read(number):
        numbers.append(number)
        return made[number]

    mosaic = Mosaic(probability, SIDE, seed)
    return mosaic(made[0], (0, index), 4, read), numbers


def test_boxes_lie_on_their_objects_and_are_clipped():
    seen = set()
    for index in range(40):
        (image, boxes, labels), _ = joined(index)
        assert image.shape == (2 * SIDE, 2 * SIDE, 3)
        assert boxes.dtype == np.float32
        assert (boxes >= 0).all()
        assert (boxes <= 2 * SIDE).all()
        for box, label in zip(boxes, labels, strict=True):
            assert (box[2:] > box[:2]).all()
            if label and (box[2:] - box[:2]).min() > 4:
                seen.add(int(label))
                x, y = ((box[:2] + box[2:]) / 2).astype(int)
                assert np.abs(image[y, x].astype(int) - 50 * label).max() <= 8
    assert seen == {1, 2, 3, 4}


def test_objects_go_with_their_centre_and_crowds_with_their_last_part():
    crowds = objects = 0
    for index in range(60):
        (_, _, labels), _ = joined(index)
        objects += (labels > 0).sum()
        crowds += (labels == 0).sum()
    assert objects < crowds <= 4 * 60


def test_a_mosaic_has_the_sample_and_three_others():
    (_, _, labels), numbers = joined(0)
    assert len(numbers) == 3
    assert len(set(labels.tolist()) - {0}) >= 1


def test_draws_follow_from_seed_and_key_alone():
    (first, *_), numbers = joined(7)
    (again, *_), same = joined(7)
    assert np.array_equal(first, again)
    assert numbers == same
    assert not np.array_equal(first, joined(8)[0].image)
    assert not np.array_equal(first, joined(7, seed=1)[0].image)


def test_the_share_of_mosaics():
    counts = sum(len(joined(index, probability=0.3)[1]) == 3 for index in range(300))
    assert 60 < counts < 120
    (image, *_), numbers = joined(0, probability=0.0)
    assert image.shape == (40, 40, 3)
    assert not numbers


def test_images_without_objects_can_be_joined():
    empty = Example(np.zeros((8, 9, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, int))
    found = Mosaic(1.0, SIDE)(empty, (0, 0), 1, lambda _: empty)
    assert found.boxes.shape == (0, 4)


def test_the_data_module_joins_by_its_option_for_any_number_of_workers(tmp_path):
    for split in ("train2017", "val2017"):
        write_coco(tmp_path, split)
    options = {"batch_size": 2, "image_size": 32, "augment": AugmentConfig(preset="flip")}
    runs = []
    for workers in (0, 2):
        data = CocoDataModule(tmp_path, mosaic=0.5, num_workers=workers, **options)
        data.setup("fit")
        runs.append([images for images, _ in data.train_dataloader()])
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
    plain = CocoDataModule(tmp_path, num_workers=0, **options)
    assert "mosaic" not in plain.state_dict()
    assert data.state_dict()["mosaic"] == 0.5
    with pytest.raises(ValueError, match=r"data\.mosaic must be in \[0, 1\], got 2"):
        CocoDataModule(tmp_path, mosaic=2, **options)
