"""Random changes move image and mask together, and depend on seed, epoch and index alone."""

import numpy as np
import pytest
import torch
from mask_folders import COLOURS, draw_image, draw_mask

from igcv3det.tasks.segment.config import MaskAugmentConfig, SegmenterConfig
from igcv3det.tasks.segment.masks import IGNORED
from igcv3det.tasks.segment.transforms import MaskEvalTransform, MaskTrainTransform

CONFIG = SegmenterConfig(image_size=(48, 64), mean=(127, 127, 127), std=(1, 1, 1))
MASK = draw_mask(np.random.default_rng(3))
IMAGE = draw_image(MASK)


def changed(key=(0, 0), seed=0, **augment):
    transform = MaskTrainTransform(MaskAugmentConfig(**augment), CONFIG, seed)
    image, mask = transform(IMAGE, MASK, key)
    return np.rint(image.numpy().transpose(1, 2, 0) + 127).astype(int), mask


@pytest.mark.parametrize("scale", [(1, 1), (0.4, 0.6), (1.5, 3)], ids=str)
def test_the_mask_follows_the_image(scale):
    for index in range(8):
        image, mask = changed((0, index), scale=scale, colour=0)
        assert image.shape[:2] == mask.shape == CONFIG.image_size
        inside = mask != IGNORED
        assert inside.all() == (scale[0] >= 1)
        expected = COLOURS[np.minimum(mask, 3)]
        same = (np.abs(image - expected) <= 1).all(axis=2)
        assert same[inside].mean() > 0.75  # edges are interpolated
        assert (image[~inside] == 127).all()


def test_without_changes_it_is_the_resized_image():
    image, mask = changed(scale=(1, 1), flip=False, colour=0)
    expected, whole = MaskEvalTransform(CONFIG)(IMAGE, MASK, (0, 0))
    assert np.array_equal(image, np.rint(expected.numpy().transpose(1, 2, 0) + 127))
    assert whole is MASK
    assert np.array_equal(mask[::2, ::2], MASK)


def test_draws_depend_on_seed_epoch_and_index():
    first, mask = changed((1, 2))
    again, same = changed((1, 2))
    assert np.array_equal(first, again)
    assert np.array_equal(mask, same)
    for other in (changed((1, 3)), changed((2, 2)), changed((1, 2), seed=1)):
        assert not np.array_equal(first, other[0])


@pytest.mark.parametrize("augment", [{"scale": (0, 1)}, {"scale": (2, 1)}, {"colour": 1}], ids=str)
def test_ranges(augment):
    with pytest.raises(ValueError, match="augment"):
        MaskAugmentConfig(**augment)


def test_large_images_are_averaged():
    checks = np.indices((96, 128)).sum(0) % 2 * 200
    image = np.repeat(checks[:, :, None], 3, 2).astype(np.uint8)
    small, _ = MaskEvalTransform(CONFIG)(image, MASK, (0, 0))
    assert torch.all(small + 127 == 100)
