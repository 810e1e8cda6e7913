"""Batched crops and flips against torchvision's of single images."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as oracle

from igcv3det.tasks.classify.augmentation import (
    CropFlipSampler,
    crop_and_flip,
    crop_box,
    random_crop,
)
from igcv3det.tasks.classify.config import ImageAugmentConfig


def test_pad_crop_and_flip_agree_with_torchvision():
    images = torch.randint(0, 256, (18, 8, 6, 3), dtype=torch.uint8)
    places = [(top, left, flip) for top in (0, 2, 4) for left in (0, 1, 4) for flip in (0, 1)]
    found = crop_and_flip(images, torch.tensor(places), pad=2)
    for image, (top, left, flip), own in zip(images, places, found, strict=True):
        padded = oracle.pad(image.permute(2, 0, 1), [2, 2, 2, 2])
        expected = oracle.crop(padded, top, left, 8, 6)
        expected = oracle.hflip(expected) if flip else expected
        assert torch.equal(own.permute(2, 0, 1), expected)


def test_without_padding_and_flips_nothing_changes():
    images = torch.randint(0, 256, (4, 5, 5, 3), dtype=torch.uint8)
    sampler = CropFlipSampler(4, ImageAugmentConfig(flip=False, pad=0), 0)
    crop_flips = sampler.sample(3, np.arange(4))
    assert torch.equal(crop_and_flip(images, crop_flips, 0), images)


def test_crops_depend_on_seed_epoch_and_image_alone():
    def draw(seed, epoch, indices):
        return CropFlipSampler(50, ImageAugmentConfig(), seed).sample(epoch, np.array(indices))

    sampler = CropFlipSampler(50, ImageAugmentConfig(), 0)
    sampler.sample(0, np.arange(50))
    assert torch.equal(sampler.sample(1, np.array([7, 3])), draw(0, 1, [7, 3]))
    assert torch.equal(draw(0, 1, [7, 3]).flip(0), draw(0, 1, [3, 7]))
    assert not torch.equal(draw(0, 1, range(50)), draw(0, 2, range(50)))
    assert not torch.equal(draw(0, 1, range(50)), draw(1, 1, range(50)))


def test_crops_and_flips_are_uniform():
    crop_flips = CropFlipSampler(9000, ImageAugmentConfig(pad=1), 0).sample(0, np.arange(9000))
    for column, values in ((0, 3), (1, 3), (2, 2)):
        counts = torch.bincount(crop_flips[:, column], minlength=values)
        assert len(counts) == values
        assert (counts / 9000 - 1 / values).abs().max() < 0.03


@pytest.mark.parametrize("size", [(100, 100), (60, 200), (200, 60), (1, 1), (1, 300)])
def test_crop_boxes_are_inside_the_image(size):
    config, rng = ImageAugmentConfig(), np.random.default_rng(0)
    for _ in range(200):
        top, left, height, width = crop_box(*size, config, rng)
        assert 0 <= top <= top + height <= size[0]
        assert 0 <= left <= left + width <= size[1]
        assert min(height, width) >= 1


def test_crop_boxes_are_in_the_ranges_of_area_and_aspect_ratio():
    config = ImageAugmentConfig(crop_scale=(0.25, 0.5), crop_ratio=(1.0, 2.0))
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box(200, 200, config, rng) for _ in range(300)], float)
    shares, ratios = boxes[:, 2] * boxes[:, 3] / 200**2, boxes[:, 3] / boxes[:, 2]
    assert shares.min() > 0.24
    assert shares.max() < 0.51
    assert ratios.min() > 0.98
    assert ratios.max() < 2.04


def test_a_crop_of_the_whole_image_is_only_resized():
    config = ImageAugmentConfig(flip=False, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    assert (random_crop(image, 16, config, np.random.default_rng(1)) == image).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pad": -1}, "pad must be >= 0"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale"),
        ({"crop_scale": (0.9, 0.5)}, "crop_scale"),
        ({"crop_ratio": (2.0, 1.0)}, "crop_ratio"),
    ],
)
def test_ranges(changes, message):
    with pytest.raises(ValueError, match=message):
        ImageAugmentConfig(**changes)
