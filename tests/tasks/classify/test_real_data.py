"""CIFAR-10 in a zip file."""

import pytest
import torch

from igcv3det.tasks.classify.datamodule import ClassificationDataModule

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


@pytest.mark.data
def test_cifar10(real_data, tmp_path):
    file = real_data / "cifar10" / "cifar10_jpeg.zip"
    if not file.is_file():
        pytest.skip(f"no {file}")
    data = ClassificationDataModule(str(file), cache=str(tmp_path), val_batch_size=10_000)
    assert list(data.names) == CLASSES
    assert len(data.train_part) == 50_000
    (test,) = data.val_dataloader()
    assert test.images.shape == (10_000, 32, 32, 3)
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    # the mean of CIFAR-10's test images, which JPEG changes little
    mean = test.images.float().mean(dim=(0, 1, 2))
    torch.testing.assert_close(mean, torch.tensor([126.0, 123.7, 114.9]), atol=1.0, rtol=0)
