"""Images to calibrate 8-bit files on, and to compare files on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from igcv3det.io.images import EXTENSIONS, ImageReadError, read_image
from igcv3det.preprocess import Preprocess

logger = logging.getLogger(__name__)

CALIBRATION_IMAGES = 300
"""NNCF's default too."""
Array = NDArray[np.float32]


class CalibrationSet:
    """Images of a folder as network inputs [1, 3, S, S], read when their turn comes.

    Images are taken at even steps through the sorted names, so that a folder sorted by source
    gives some of each; what cannot be read is logged and left out.

    Args:
        folder: images, not those of inner folders.
        preprocess: the detector's.
        limit: at most so many.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no image in it can be read.
    """

    def __init__(
        self, folder: str | Path, preprocess: Preprocess, limit: int = CALIBRATION_IMAGES
    ) -> None:
        self._preprocess = preprocess
        self.files = [path for path in list_images(folder, limit) if _is_readable(path)]
        if not self.files:
            raise ValueError(f"{folder}: no image to calibrate on")

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Array]:
        for path in self.files:
            yield self._preprocess(read_image(path))[None].numpy()


def list_images(folder: str | Path, limit: int | None = None) -> list[Path]:
    """Image files of a folder by name, at most ``limit`` at even steps.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images")
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file()
    )
    if limit is None or len(files) <= limit:
        return files
    return [files[index * len(files) // limit] for index in range(limit)]


def _is_readable(path: Path) -> bool:
    try:
        read_image(path)
    except ImageReadError as error:
        logger.warning("left out of the calibration: %s", error)
        return False
    return True
