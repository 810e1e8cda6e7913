import logging

import numpy as np
import pytest
from PIL import Image

from igcv3det.distillation.config import ViewConfig
from igcv3det.distillation.datamodule import DistillationDataModule


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
