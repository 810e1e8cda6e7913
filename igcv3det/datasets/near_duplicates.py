"""Images that show nearly the same: copies, other sizes and qualities, neighbouring video frames.

Each image has a hash of 256 bits: which of its lowest 16 x 16 cosine frequencies exceed their
median. Two images of one photograph differ in few bits, other images in about half of them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from igcv3det.io.images import Image

FREQUENCIES = 16
_SIDE_PX = 64
HASH_BYTES = FREQUENCIES**2 // 8
MAX_DISTANCE = 24
"""Bits in which near-duplicates may differ. Of 200 images of COCO and BCCD, copies at JPEG quality
30 or at half the size differ in up to 8, brightened ones in 24; of 760, others in at least 86."""
MIN_CONTRAST = 4.0
"""Standard deviation of the grey values (0 to 255) below which an image has no hash."""
_BAND_BYTES = 2
_NEIGHBOURS = 64
"""In a bucket of hashes that share a band, each is compared with so many that follow."""
_ONES = np.array([bin(value).count("1") for value in range(256)], dtype=np.uint8)


def image_hash(image: Image) -> NDArray[np.uint8] | None:
    """The hash of an image.

    Args:
        image: uint8 [H, W, 3] RGB.

    Returns:
        [32] uint8; None for an image of nearly one colour, which has nothing to compare.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    if small.std() < MIN_CONTRAST:
        return None
    waves = cv2.dct(small.astype(np.float32))[:FREQUENCIES, :FREQUENCIES].ravel()
    bits = waves > np.median(waves[1:])
    bits[0] = False  # the mean brightness
    return np.packbits(bits)


class HashTable:
    """The hashes of some images, filled in any order.

    Args:
        count: I images.

    Attributes:
        hashes: [I, 32].
        is_known: [I], which images have one.
    """

    def __init__(self, count: int) -> None:
        self.hashes = np.zeros((count, HASH_BYTES), dtype=np.uint8)
        self.is_known = np.zeros(count, dtype=np.bool_)

    def add(self, index: int, image: Image) -> None:
        """Notes the hash of an image; several threads may do so."""
        found = image_hash(image)
        if found is not None:
            self.hashes[index], self.is_known[index] = found, True

    def groups(self) -> list[list[int]]:
        """Near-duplicates, as rows of the images."""
        rows = np.flatnonzero(self.is_known)
        return [rows[group].tolist() for group in near_duplicates(self.hashes[rows])]


def near_duplicates(
    hashes: NDArray[np.uint8], max_distance: int = MAX_DISTANCE
) -> list[NDArray[np.intp]]:
    """Groups of images whose hashes differ in few bits, directly or through others of the group.

    Hashes are compared where one of 16 bands of 16 bits is equal, which all pairs within 15 bits
    have and 98 % of those at 24 bits. The time is that of sorting.

    Args:
        hashes: [I, 32].
        max_distance: bits.

    Returns:
        The rows of each group, at least two, ascending.
    """
    if not len(hashes):
        return []
    unique, same = np.unique(hashes, axis=0, return_inverse=True)
    parents = np.arange(len(unique))
    bands = unique.view(np.dtype(f">u{_BAND_BYTES}"))
    for column in range(bands.shape[1]):
        order = np.argsort(bands[:, column], kind="stable")
        values = bands[order, column]
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            places = np.flatnonzero(values[:-step] == values[step:])
            if not len(places):
                break
            first, second = order[places], order[places + step]
            distance = _ONES[unique[first] ^ unique[second]].sum(axis=1, dtype=np.int64)
            for one, other in zip(
                first[distance <= max_distance].tolist(),
                second[distance <= max_distance].tolist(),
                strict=True,
            ):
                parents[_root(parents, one)] = _root(parents, other)
    roots = np.array([_root(parents, place) for place in same.ravel().tolist()])
    order = np.argsort(roots, kind="stable")
    _, starts = np.unique(roots[order], return_index=True)
    return [group for group in np.split(order, starts[1:]) if len(group) > 1]


def _root(parents: NDArray[np.intp], place: int) -> int:
    while parents[place] != place:
        parents[place] = parents[parents[place]]
        place = int(parents[place])
    return place
