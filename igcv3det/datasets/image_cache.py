"""Images decoded once: a file of squares that batches are cut from.

Decoding a photograph takes as long as training on it does, and distillation sees each of a few
thousand many times. So each is stretched to a square once, as SSDLite's own input is, and kept as
bytes in one file that is mapped into memory.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from igcv3det.io.images import EXTENSIONS, ImageReadError, read_image

logger = logging.getLogger(__name__)

FORMAT = 1


class ImageCache:
    """All images of some folders as squares, decoded at the first use and kept in ``cache``.

    The file's name is a hash of what went in (names, sizes, times and the side), so another set of
    images gets another file. Unreadable images are left out and named in the log.

    Args:
        folders: each is searched for images, not deeper.
        side: of the squares, pixels.
        cache: folder for the file; ``3 * side ** 2`` bytes an image.

    Attributes:
        pixels: [N, side, side, 3] uint8 RGB, read-only.
        paths: [N] of the images, in the folders' order, sorted within each.

    Raises:
        FileNotFoundError: a folder that is missing or holds no image.
        ValueError: no image can be read.
    """

    def __init__(self, folders: Sequence[str | Path], side: int, cache: str | Path) -> None:
        paths = [path for folder in folders for path in images_in(folder)]
        stem = Path(cache) / f"images-{side}-{_key(paths, side)}"
        pixels, names = stem.with_suffix(".npy"), stem.with_suffix(".json")
        if not (pixels.is_file() and names.is_file()):
            _decode_all(paths, side, pixels, names)
        kept = set(json.loads(names.read_text(encoding="utf-8")))
        self.paths = [path for path in paths if str(path) in kept]
        self.pixels: NDArray[np.uint8] = np.load(pixels, mmap_mode="r")

    def __len__(self) -> int:
        """Images."""
        return len(self.paths)


def images_in(folder: str | Path) -> list[Path]:
    """The images of a folder, sorted.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of images")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in EXTENSIONS)
    if not paths:
        raise FileNotFoundError(f"{folder}: holds no image ({', '.join(sorted(EXTENSIONS))})")
    return paths


def _key(paths: Sequence[Path], side: int) -> str:
    digest = hashlib.sha256(f"{FORMAT} {side}".encode())
    for path in paths:
        facts = path.stat()
        digest.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:16]


def _decode_all(paths: Sequence[Path], side: int, pixels: Path, names: Path) -> None:
    """Writes both files; the names last, so that their presence means that all is there."""
    logger.info("decoding %d images to %s", len(paths), pixels)
    pixels.parent.mkdir(parents=True, exist_ok=True)
    partial = pixels.with_name(f"{pixels.name}.{os.getpid()}.partial")
    kept: list[str] = []
    with partial.open("wb") as file, ThreadPoolExecutor() as pool:
        _write_header(file, (len(paths), side, side, 3))
        for path, image in zip(paths, pool.map(lambda p: _square(p, side), paths), strict=True):
            if image is not None:
                file.write(image.tobytes())
                kept.append(str(path))
        if not kept:
            raise ValueError(f"{paths[0].parent}: none of its images can be read")
        file.seek(0)
        _write_header(file, (len(kept), side, side, 3))
    partial.replace(pixels)
    names.write_text(json.dumps(kept), encoding="utf-8")


def _write_header(file: object, shape: tuple[int, ...]) -> None:
    # of constant length for up to 21 digits: NumPy pads it for a first axis that may grow
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]


def _square(path: Path, side: int) -> NDArray[np.uint8] | None:
    try:
        image = read_image(path)
    except ImageReadError as error:
        logger.warning("left out: %s", error)
        return None
    # averaging when it shrinks much, as a thumbnail is made: cv2.resize alone would alias
    shrinks = min(image.shape[:2]) > 2 * side
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast("NDArray[np.uint8]", cv2.resize(image, (side, side), interpolation=kind))
