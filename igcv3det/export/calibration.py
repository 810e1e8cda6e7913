"""Images to calibrate int8 files on, and to compare files on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from igcv3det.io.folders import images_in
from igcv3det.io.images import Image, ImageReadError, read_image

logger = logging.getLogger(__name__)

CALIBRATION_IMAGES = 300
"""NNCF's default too."""
WeightBits = Literal[7, 8]
Array = NDArray[np.float32]


class CalibrationSet:
    """Images of a folder as network inputs [1, 3, S, S], read one by one.

    Images are taken at even steps through the sorted names, so that a folder sorted by source
    contributes some of each source. Unreadable ones are logged and left out.

    Args:
        folder: of images; inner folders are not searched.
        preprocess: the network's, from an image [H, W, 3] to [3, S, S].
        limit: largest number of images.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no image in it can be read.
    """

    def __init__(
        self,
        folder: str | Path,
        preprocess: Callable[[Image], Tensor],
        limit: int = CALIBRATION_IMAGES,
    ) -> None:
        self._preprocess = preprocess
        self.files, unreadable = split_readable(list_images(folder, limit))
        for sentence in unreadable:
            logger.warning("left out of the calibration: %s", sentence)
        if not self.files:
            raise ValueError(f"{folder}: no image to calibrate on")

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Array]:
        for path in self.files:
            yield self._preprocess(read_image(path))[None].numpy()


def mean_outputs(run: Callable[[Array], Iterable[Array]], inputs: Iterable[Array]) -> list[Array]:
    """The mean over ``inputs`` of each array that ``run`` returns, float32."""
    sums: list[NDArray[np.float64]] = []
    count = 0
    for array in inputs:
        outputs = [values.astype(np.float64) for values in run(array)]
        sums = [a + b for a, b in zip(sums, outputs, strict=True)] if sums else outputs
        count += 1
    return [(total / count).astype(np.float32) for total in sums]


def list_images(folder: str | Path, limit: int | None = None) -> list[Path]:
    """Image files of a folder sorted by name, at most ``limit`` of them, at even steps.

    Links that lead nowhere are among them, for `split_readable` to name.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    return at_even_steps(images_in(folder), limit)


def at_even_steps(files: list[Path], limit: int | None) -> list[Path]:
    """At most ``limit`` of the files, from all parts of the list."""
    if limit is None or len(files) <= limit:
        return files
    return [files[index * len(files) // limit] for index in range(limit)]


def split_readable(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The files that can be read as images, and one sentence for each of the others."""
    readable, unreadable = [], []
    for path in files:
        try:
            read_image(path)
        except ImageReadError as error:
            unreadable.append(str(error))
        else:
            readable.append(path)
    return readable, unreadable
