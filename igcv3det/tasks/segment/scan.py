"""Reads all masks of a split once: which labels they have, and whether they fit their images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.image_sizes import read_size
from igcv3det.io.images import ImageSizeError, read_image
from igcv3det.tasks.segment.class_tables import ClassTable
from igcv3det.tasks.segment.masks import (
    IGNORED,
    MAX_CLASSES,
    ClassLabels,
    Mask,
    MaskError,
    check_names,
    read_mask,
)
from igcv3det.tasks.segment.sources import MaskedImage

logger = logging.getLogger(__name__)


class SplitScan(NamedTuple):
    """What the masks of a split hold.

    Attributes:
        samples: images and masks.
        counts: [N, 256] int64, pixels of each label in each mask.
        sizes: [N, 2] int64, height and width of each mask, pixels.
    """

    samples: Sequence[MaskedImage]
    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def pixels(self, classes: ClassLabels) -> tuple[int, ...]:
        """Pixels of each class."""
        totals = self.counts.sum(axis=0)
        return tuple(int(totals[label]) for label in classes.labels)


def scan_split(samples: Sequence[MaskedImage]) -> SplitScan:
    """Reads all masks of a split, in threads; of images only the size.

    Raises:
        MaskError: a mask that cannot be read, or of another size than its image.
    """
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_scan, samples))
    return SplitScan(
        samples,
        np.array([counts for counts, _ in found]),
        np.array([size for _, size in found], np.int64),
    )


def read_pair(sample: MaskedImage) -> tuple[NDArray[np.uint8], Mask]:
    """An image [H, W, 3] and its labels [H, W].

    Raises:
        ImageReadError, MaskError: one of the files cannot be read, or their sizes differ.
    """
    mask = read_mask(sample.mask, sample.table)
    try:
        return read_image(sample.image, (mask.shape[0], mask.shape[1])), mask
    except ImageSizeError:
        raise _size_error(sample, mask.shape, read_size(sample.image)) from None


def class_labels(scan: SplitScan, ignored: Sequence[int], listed: ClassTable | None) -> ClassLabels:
    """The classes of a data set.

    Args:
        scan: of the training masks.
        ignored: labels of no class, besides 255.
        listed: names of the labels from 0; None takes the labels that occur, which
            must leave no gap.

    Raises:
        ValueError: names that do not fit, a gap, or fewer than two classes.
    """
    left_out = tuple(sorted(set(ignored) - {IGNORED}))
    if listed is not None:
        names = check_names(listed.names, listed.path)
        labels = tuple(label for label in range(len(names)) if label not in left_out)
        chosen = tuple(names[label] for label in labels)
    else:
        labels = _occurring(scan, left_out)
        chosen = tuple(f"class {label}" for label in labels)
    if not 2 <= len(labels) <= MAX_CLASSES:
        held = ", ".join(map(str, labels)) or "none"
        raise ValueError(
            f"{scan.samples[0].mask.parent}: training needs 2 to {MAX_CLASSES} classes, the masks "
            f"have {len(labels)}: {held} (255 and {list(left_out)} are ignored); two classes are "
            "labels 0 and 1"
        )
    return ClassLabels(labels, left_out, chosen)


def check_labels(scan: SplitScan, classes: ClassLabels) -> None:
    """Checks that all labels of a split are classes or ignored; names masks that are all ignored.

    Raises:
        MaskError: a label of no class.
    """
    known = [*classes.labels, *classes.ignored, IGNORED]
    outside = scan.counts.copy()
    outside[:, known] = 0
    for row in np.flatnonzero(outside.any(axis=1)).tolist():
        sample = scan.samples[row]
        mask = read_mask(sample.mask, sample.table)
        classes.to_classes(mask, sample.mask)  # raises, with the place
    counted = scan.counts[:, list(classes.labels)].sum(axis=1)
    for row in np.flatnonzero(counted == 0).tolist():
        labels = ", ".join(map(str, np.flatnonzero(scan.counts[row])))
        logger.warning(
            "%s: no pixel of a class: all are ignored (label %s)", scan.samples[row].mask, labels
        )


def _occurring(scan: SplitScan, ignored: tuple[int, ...]) -> tuple[int, ...]:
    totals = scan.counts.sum(axis=0)
    found = [label for label in np.flatnonzero(totals).tolist() if label not in (*ignored, IGNORED)]
    absent = set(range(max(found, default=0))) - set(found) - set(ignored)
    if absent:
        beyond = next(label for label in found if label > min(absent))
        row = int(np.flatnonzero(scan.counts[:, beyond])[0])
        raise MaskError(
            f"{scan.samples[row].mask}: label {beyond}, but no training mask has label "
            f"{min(absent)}: name all classes in a file (--classes FILE), or leave {beyond} out "
            f"(--ignore {beyond})"
        )
    return tuple(found)


def _scan(sample: MaskedImage) -> tuple[NDArray[np.int64], tuple[int, int]]:
    mask = read_mask(sample.mask, sample.table)
    height, width = mask.shape
    size = read_size(sample.image)
    if size not in ((height, width), (width, height)):  # an orientation may turn the image
        raise _size_error(sample, mask.shape, size)
    return np.bincount(mask.ravel(), minlength=256), (height, width)


def _size_error(sample: MaskedImage, mask: tuple[int, ...], image: tuple[int, ...]) -> MaskError:
    return MaskError(
        f"{sample.mask}: {mask[1]} x {mask[0]} pixels, but its image {sample.image} has "
        f"{image[1]} x {image[0]}"
    )
