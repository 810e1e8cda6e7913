"""Masks: images whose pixels are labels, and which labels count as classes.

A mask is a PNG (or another format without loss) with one number a pixel: grey values, or indices
into a palette, whose colours have no meaning. Colours alone do not say which label they stand for,
so RGB masks are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import PIL.Image
from numpy.typing import NDArray

Mask = NDArray[np.uint8]
"""[H, W]: labels as the file has them, or classes 0 to K - 1 and ``IGNORED``."""

IGNORED = 255
"""Pixels of no class, which neither training nor evaluation counts; Pascal VOC's void."""
MAX_CLASSES = 254
_OUTSIDE = 254  # of a lookup table; a class never has it
_PLAIN_MODES, _WIDE_MODES = ("L", "P", "1"), ("I;16", "I;16B", "I;16L", "I")


class MaskError(ValueError):
    """A mask that cannot be used; the message names the file."""


class ClassLabels(NamedTuple):
    """Which labels of the masks are classes.

    Attributes:
        labels: [K] the label of each class, ascending.
        ignored: labels of no class, besides ``IGNORED``.
        names: [K] names of the classes.

    Example:
        >>> classes = ClassLabels((1, 2), (0,), ("road", "sky"))
        >>> classes.to_classes(np.array([[0, 1, 2, 255]], np.uint8), Path("a.png")).tolist()
        [[255, 0, 1, 255]]
    """

    labels: tuple[int, ...]
    ignored: tuple[int, ...]
    names: tuple[str, ...]

    def to_classes(self, mask: Mask, path: Path) -> Mask:
        """Labels [H, W] to classes; those that are ignored become ``IGNORED``.

        Args:
            mask: as read.
            path: its file, for the message.

        Raises:
            MaskError: a label of no class.
        """
        table = np.full(256, _OUTSIDE, np.uint8)
        table[list(self.labels)] = np.arange(len(self.labels))
        table[[*self.ignored, IGNORED]] = IGNORED
        classes = table[mask]
        outside = classes == _OUTSIDE
        if outside.any():
            row, column = np.argwhere(outside)[0]
            label = int(mask[row, column])
            pixels = int((mask == label).sum())
            raise MaskError(
                f"{path}: label {label} at row {row}, column {column} ({pixels} pixels) is "
                f"none of the {len(self.labels)} classes ({self.labels[0]} to "
                f"{self.labels[-1]}); --ignore {label} leaves its pixels out"
            )
        return classes

    def to_labels(self, classes: Mask) -> Mask:
        """Classes [H, W] in 0 to K - 1 to the labels that masks of this data have."""
        return np.array(self.labels, np.uint8)[classes]


def read_mask(path: Path) -> Mask:
    """Reads the labels of a mask file.

    Raises:
        MaskError: no such file, empty, no image, RGB, or a label above 255.
    """
    try:
        with PIL.Image.open(path) as image:
            mode, values = image.mode, np.array(image)
    except FileNotFoundError:
        raise MaskError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        empty = path.is_file() and not path.stat().st_size
        reason = "the file is empty" if empty else f"not a readable mask ({error})"
        raise MaskError(f"{path}: {reason}") from None
    if mode in _WIDE_MODES:
        if values.max(initial=0) > IGNORED or values.min(initial=0) < 0:
            raise MaskError(f"{path}: label {values.max()} is above {IGNORED}")
        return values.astype(np.uint8)
    if mode not in _PLAIN_MODES:
        raise MaskError(
            f"{path}: an {mode} mask, whose colours do not say which labels they are; convert it "
            "to grey values or palette indices 0, 1, 2, ..."
        )
    return cast("Mask", values.astype(np.uint8))


def check_names(names: Sequence[str], source: Path) -> tuple[str, ...]:
    """Names of classes as they stand in a file, one for each label from 0.

    Raises:
        ValueError: fewer than two, more than ``MAX_CLASSES`` + 1, or one twice.
    """
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ValueError(f"{source}: names a class twice: {twice[0]}")
    if not 2 <= len(names) <= MAX_CLASSES + 1:
        raise ValueError(f"{source}: has {len(names)} names of classes, need 2 to {MAX_CLASSES}")
    return tuple(names)
