import logging

import numpy as np
import pytest
import torch
from PIL import Image

from igcv3det.distillation.config import ViewConfig
from igcv3det.distillation.datamodule import DistillationDataModule
from igcv3det.distillation.labels import PictureBoxes, write_labels
from igcv3det.structures import Categories


@pytest.fixture
def pictures(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        pixels = random.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def _datamodule(pictures, **changes):
    given = {"batch_size": 2, "held_out": 2, "seed": 0, **changes}
    cache = str(pictures.parent / "cache")
    data = DistillationDataModule(
        [str(pictures)], side=64, cache=cache, view=ViewConfig(size=32), **given
    )
    data.setup("fit")
    return data


def test_resuming_with_other_batches_is_told(pictures, caplog):
    begun = _datamodule(pictures).state_dict()
    assert begun == {"seed": 0, "batch_size": 2, "world_size": 1, "images": 4}
    with caplog.at_level(logging.WARNING):
        same, other = _datamodule(pictures), _datamodule(pictures, batch_size=4)
        same.load_state_dict(begun)
        same.train_dataloader()
        assert caplog.text == ""
        other.load_state_dict(begun)
        other.train_dataloader()
    assert "other batch_size than the run was begun with" in caplog.text


def test_too_few_pictures_are_refused(pictures):
    with pytest.raises(ValueError, match="6 pictures are too few"):
        _datamodule(pictures, held_out=5)


def test_pictures_of_one_name_cannot_have_boxes(pictures, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (pictures / "3.png").rename(other / "2.png")
    names = ("0.png", "1.png", "2.png", "4.png", "5.png")
    known = {
        name: PictureBoxes(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0)) for name in names
    }
    categories = Categories((1,), ("cat",))
    sizes = dict.fromkeys(names, (50, 40))
    write_labels(tmp_path / "boxes.json", known, sizes, categories)
    data = DistillationDataModule(
        [str(pictures), str(other)],
        boxes=(str(tmp_path / "boxes.json"),),
        side=64,
        cache=str(tmp_path / "cache"),
        batch_size=2,
        held_out=2,
        view=ViewConfig(size=32),
        categories=categories,
    )
    with pytest.raises(ValueError, match=r"2\.png is in two of data\.folders"):
        data.setup("fit")
