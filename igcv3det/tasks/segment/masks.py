"""Masks: images whose pixels are labels, and which labels count as classes.

A mask is a PNG (or another format without loss) with one number a pixel: grey values, or indices
into a palette, whose colours have no meaning. RGB masks need a table of colours (`class_tables`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from igcv3det.datasets.category_map import match_names
from igcv3det.structures import Categories
from igcv3det.tasks.segment.class_tables import ClassTable

Mask = NDArray[np.uint8]
"""[H, W]: labels as the file has them, or classes 0 to K - 1 and ``IGNORED``."""

IGNORED = 255
"""Pixels of no class, which neither training nor evaluation counts; Pascal VOC's void."""
MAX_CLASSES = 254
_NUMBERED = re.compile(r"class \d+")  # what `scan.class_labels` calls classes without names
_OUTSIDE = 254  # of a lookup table; a class never has it
_LOSSY = frozenset({"JPEG", "MPO", "JPEG2000", "WEBP", "AVIF"})
_ALPHA_MODES = {"RGBA": "RGB", "LA": "L"}  # without alpha
_PLAIN_MODES, _WIDE_MODES = ("L", "P", "1"), ("I;16", "I;16B", "I;16L", "I")


class MaskError(ValueError):
    """A mask that cannot be used; the message names the file."""


class ClassLabels(NamedTuple):
    """Which labels of the masks are classes.

    Attributes:
        labels: [K] the label of each class.
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
            label = int(mask[outside][0])
            raise MaskError(
                f"{path}: label {label}{_place(mask == label)} is none of the {len(self.labels)} "
                f"classes ({min(self.labels)} to {max(self.labels)}); --ignore {label} leaves its "
                "pixels out"
            )
        return classes

    def of_table(self, table: ClassTable | None) -> ClassLabels:
        """The same classes with the labels that a data set gives them, by their names.

        Args:
            table: of the data set; None, or classes without names, keep the labels.

        Raises:
            ValueError: a class that the table does not name.
        """
        if table is None or all(_NUMBERED.fullmatch(name) for name in self.names):
            return self
        own, other = (
            Categories(tuple(range(len(names))), tuple(names))
            for names in (self.names, table.names)
        )
        pairs = match_names(own, other)
        missing = [name for row, name in enumerate(self.names, 1) if row not in pairs]
        if missing:
            raise ValueError(
                f"{table.path}: does not name the class {missing[0]!r}, which the segmenter "
                f"has{f', and {len(missing) - 1} more' if missing[1:] else ''}: labels are "
                "matched by the names of the classes; --classes FILE has those of the masks"
            )
        labels = tuple(label - 1 for label in pairs.values())
        ignored = tuple(label for label in self.ignored if label not in labels)
        return ClassLabels(labels, ignored, self.names)

    def to_labels(self, classes: Mask) -> Mask:
        """Classes [H, W] in 0 to K - 1 to the labels that masks of this data have."""
        return np.array(self.labels, np.uint8)[classes]


def read_mask(path: Path, table: ClassTable | None = None) -> Mask:
    """Reads the labels of a mask file.

    Args:
        path: of the file.
        table: the labels of an RGB mask's colours.

    Raises:
        MaskError: no such file, empty, no image, compressed with loss, transparent, a label above
            255, or RGB with a colour that the table lacks.
    """
    try:
        with PIL.Image.open(path) as image:
            mode, form, values = image.mode, image.format, np.array(image)
    except FileNotFoundError:
        raise MaskError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        empty = path.is_file() and not path.stat().st_size
        reason = "the file is empty" if empty else f"not a readable mask ({error})"
        raise MaskError(f"{path}: {reason}") from None
    if form in _LOSSY:
        raise MaskError(f"{path}: a {form} file, whose compression changes labels; save it as PNG")
    if mode in _ALPHA_MODES:
        mode, values = _without_alpha(mode, values, path)
    if mode == "RGB":
        return _labels_of_colours(values, table, path)
    if mode in _WIDE_MODES:
        outside = (values > IGNORED) | (values < 0)
        if outside.any():
            label = values[outside][0]
            raise MaskError(f"{path}: label {label}{_place(outside)} is not in 0..{IGNORED}")
        return values.astype(np.uint8)
    if mode not in _PLAIN_MODES:
        raise MaskError(f"{path}: an {mode} mask; save it as grey values or palette indices")
    return cast("Mask", values.astype(np.uint8))


def _without_alpha(
    mode: str, values: NDArray[np.uint8], path: Path
) -> tuple[str, NDArray[np.uint8]]:
    transparent = values[..., -1] != 255
    if transparent.any():
        raise MaskError(
            f"{path}: alpha {values[..., -1][transparent][0]}{_place(transparent)}: a pixel of a "
            "mask has a label or none, and is not transparent; 255 is the label of pixels that "
            "are ignored"
        )
    return _ALPHA_MODES[mode], values[..., 0] if mode == "LA" else values[..., :-1]


def _labels_of_colours(values: NDArray[np.uint8], table: ClassTable | None, path: Path) -> Mask:
    if table is None or table.colours is None:
        red, green, blue = values[0, 0]
        named = "" if table is None else f", and {table.path} has names alone"
        raise MaskError(
            f"{path}: an RGB mask (its first pixel is {red} {green} {blue}){named}: name the "
            "classes with their colours, a line 'R G B name' for each label from 0, in a file "
            "(--classes FILE) or label_colors.txt in the data set"
        )
    labels, unknown = table.labels_of(values)
    if unknown.any():
        red, green, blue = values[unknown][0]
        raise MaskError(
            f"{path}: colour {red} {green} {blue}{_place(unknown)} is none of the "
            f"{len(table.names)} of {table.path}"
        )
    return labels


def _place(where: NDArray[np.bool_]) -> str:
    """The first of some pixels and their number, for a message."""
    row, column = np.argwhere(where)[0]
    return f" at row {row}, column {column} ({int(where.sum())} pixels)"


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
