import numpy as np
import pytest

from igcv3det.shapes.classification import NAMES, draw_classes


def test_classes_in_turn_and_the_same_again():
    images, labels = draw_classes(8, 32)
    assert images.shape == (8, 32, 32, 3)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert (images == draw_classes(8, 32)[0]).all()
    assert all(image.std() > 5 for image in images)


def test_splits_and_seeds_share_no_image():
    sets = [draw_classes(6, 24, seed, split)[0] for seed, split in ((0, 0), (0, 1), (1, 0))]
    for i, one in enumerate(sets):
        for other in sets[i + 1 :]:
            assert all((a != b).any() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("count", "side"), [(len(NAMES) - 1, 32), (6, 15)])
def test_too_few_or_too_small(count, side):
    with pytest.raises(ValueError, match="need at least"):
        draw_classes(count, side)


def test_types():
    images, labels = draw_classes(6, 16)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
