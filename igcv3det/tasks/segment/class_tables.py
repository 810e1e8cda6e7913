"""Tables of classes: names in the order of the labels, and their colours in RGB masks.

A table is a text file with a class a line. It has names alone, or a colour with each name:
``64 128 64 Animal`` (CamVid's ``label_colors.txt``), ``Animal,64,128,64`` (``class_dict.csv``) or
``Animal:64,128,64::`` (CVAT's ``labelmap.txt``). Lines that begin with ``#`` are left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.formats.folders import NAME_FILES, read_names
from igcv3det.datasets.text_files import read_text

COLOUR_FILES = ("label_colors.txt", "class_dict.csv", "labelmap.txt")
"""Tables with colours that are found in a data set's folder, where none of names is."""
_SEPARATOR = r"[\s,;]+"
_NUMBERS = _SEPARATOR.join([r"(\d{1,3})"] * 3)
_COLOUR_FIRST = re.compile(rf"{_NUMBERS}{_SEPARATOR}(.*\S)")
_NAME_FIRST = re.compile(rf"(\S.*?)(?:\s*:\s*|{_SEPARATOR}){_NUMBERS}(?::.*)?")
_HEADER = re.compile(rf"\w+{_SEPARATOR}r{_SEPARATOR}g{_SEPARATOR}b", re.IGNORECASE)


class ClassTable(NamedTuple):
    """The classes of a data set.

    Attributes:
        path: file or folder that they were read from.
        names: of the labels from 0.
        colours: [K, 3] uint8 RGB of each; None where the file has names alone.
    """

    path: Path
    names: list[str]
    colours: NDArray[np.uint8] | None = None

    def labels_of(self, rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The labels [H, W] of colours [H, W, 3], and where a colour is none of the table."""
        assert self.colours is not None
        own = _packed(self.colours)
        order = np.argsort(own).astype(np.uint8)
        keys, wanted = own[order], _packed(rgb)
        places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
        return order[places], keys[places] != wanted


def read_class_table(path: Path) -> ClassTable:
    """Reads a table.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text, some lines have a colour and others not, or two have the same.
    """
    return _parsed(read_text(path).splitlines(), path)


def find_class_table(root: Path) -> ClassTable | None:
    """The table in a data set's folder: ``classes.txt``, or the first of ``COLOUR_FILES``.

    Raises:
        ValueError: see `read_class_table`.
    """
    names = read_names(root)
    if names is not None:
        return _parsed(names, next(p for n in NAME_FILES if (p := root / n).is_file()))
    found = [path for name in COLOUR_FILES if (path := root / name).is_file()]
    return read_class_table(found[0]) if found else None


def _parsed(lines: Sequence[str], path: Path) -> ClassTable:
    kept = [
        (number, text)
        for number, line in enumerate(lines, 1)
        if (text := line.strip()) and not text.startswith("#") and not _HEADER.fullmatch(text)
    ]
    found = [_coloured(text) for _, text in kept]
    if not any(found):
        return ClassTable(path, [text for _, text in kept])
    colours: dict[tuple[int, ...], str] = {}
    names = []
    for (number, text), own in zip(kept, found, strict=True):
        where = f"{path}: line {number}"
        if own is None:
            raise ValueError(f"{where}: {text!r} has no colour, and other classes have one")
        name, colour = own
        if max(colour) > 255:
            raise ValueError(f"{where}: {name}: {colour} is no colour of numbers in 0..255")
        if colour in colours:
            raise ValueError(f"{where}: {name} has the colour {colour} of {colours[colour]}")
        colours[colour] = name
        names.append(name)
    return ClassTable(path, names, np.array(list(colours), np.uint8))


def _coloured(text: str) -> tuple[str, tuple[int, ...]] | None:
    if match := _COLOUR_FIRST.fullmatch(text):
        *numbers, name = match.groups()
    elif match := _NAME_FIRST.fullmatch(text):
        name, *numbers = match.groups()
    else:
        return None
    return name.strip(), tuple(int(number) for number in numbers)


def _packed(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    red, green, blue = (rgb[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue
