import numpy as np
import pytest
from PIL import Image, ImageEnhance

from igcv3det.datasets.near_duplicates import HASH_BYTES, HashTable, image_hash, near_duplicates


def photograph(seed, side=96):
    """Smooth blobs: most of the contrast at low frequencies, as in photographs."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def changed(image, change):
    if change == "half the size":
        return image.resize((48, 48), Image.Resampling.BILINEAR)
    if change == "brighter":
        return ImageEnhance.Brightness(image).enhance(1.1)
    noise = np.random.default_rng(0).integers(-6, 7, (96, 96, 3))
    return Image.fromarray((np.array(image).astype(int) + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("change", ["half the size", "brighter", "noise"])
def test_changed_copies_are_found_and_other_images_are_not(change):
    images = [photograph(seed) for seed in range(20)]
    images += [changed(images[4], change), changed(images[9], change)]
    table = HashTable(len(images))
    for index in reversed(range(len(images))):
        table.add(index, np.array(images[index]))
    assert sorted(table.groups()) == [[4, 20], [9, 21]]


def test_images_of_one_colour_have_no_hash():
    grey = np.full((50, 40, 3), 128, dtype=np.uint8)
    assert image_hash(grey) is None
    table = HashTable(2)
    table.add(0, grey)
    table.add(1, grey)
    assert table.groups() == []


def hashes(*flipped):
    """Random hashes that differ from the first in these bits."""
    base = np.random.default_rng(5).integers(0, 256, HASH_BYTES, dtype=np.uint8)
    rows = []
    for bits in flipped:
        row = np.unpackbits(base)
        row[list(bits)] ^= 1
        rows.append(np.packbits(row))
    return np.array(rows)


def test_distances_by_hand():
    far = range(0, 256, 10)  # 26 bits, at least one in each band of 16
    rows = hashes((), (0,), far, range(24), range(25))
    groups = [group.tolist() for group in near_duplicates(rows)]
    assert groups == [[0, 1, 3, 4]]  # the last through the one before it
    assert near_duplicates(rows[[0, 2]]) == []
    assert near_duplicates(rows[[0, 4]]) == []
    assert len(near_duplicates(rows[[0, 3]])) == 1


def test_every_pair_within_15_bits_is_found():
    random = np.random.default_rng(1)
    rows = random.integers(0, 256, (200, HASH_BYTES), dtype=np.uint8)
    copies = np.unpackbits(rows, axis=1)
    for row in copies:
        row[random.choice(256, 15, replace=False)] ^= 1
    both = np.concatenate([rows, np.packbits(copies, axis=1)])
    groups = sorted(group.tolist() for group in near_duplicates(both))
    assert groups == [[row, row + 200] for row in range(200)]


def test_equal_hashes_and_none():
    rows = hashes((), (), ())
    assert [group.tolist() for group in near_duplicates(rows)] == [[0, 1, 2]]
    assert near_duplicates(rows[:0]) == []
    assert near_duplicates(rows[:1]) == []
