"""Images decoded once: all at one size in one file that is mapped into memory.

Decoding a photograph takes as long as training on it does. Distillation reads a few thousand
photographs many times, classification tens of thousands of small images; both keep them here.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from igcv3det.atomic_files import atomic_write, replacing
from igcv3det.datasets.array_files import mapped_array, write_array_header
from igcv3det.io.folders import images_in
from igcv3det.io.images import EXTENSIONS, Image, ImageReadError, read_image

logger = logging.getLogger(__name__)

FORMAT = 2  # of the files; another number makes the old ones unknown


class DecodedImages(NamedTuple):
    """Some images at one size.

    Attributes:
        pixels: [N, H, W, 3] uint8 RGB; read-only and mapped into memory where it comes from a file.
        rows: [N], which of the images these are: those that could not be read are missing.
    """

    pixels: NDArray[np.uint8]
    rows: list[int]


def decoded_images(
    resized: Callable[[], Iterator[Image | None]],
    count: int,
    side: int | tuple[int, int],
    cache: Path | None,
    name: str,
    fingerprint: str,
) -> DecodedImages:
    """Decodes images, or takes what an earlier run has decoded.

    Several processes may decode at once, and one may be killed: a file appears when it is complete.

    Args:
        resized: decodes all images in order, at their size each; None for one to leave out.
        count: of the images.
        side: of squares, or height and width; pixels.
        cache: folder of the files, three bytes a pixel; None keeps them in memory.
        name: what the files' names begin with.
        fingerprint: another one for other content; part of the files' names as a hash.

    Raises:
        ImageReadError: from ``resized``.
    """
    height, width = (side, side) if isinstance(side, int) else side
    shape = (count, height, width, 3)
    own = height if height == width else (height, width)
    if cache is None:
        return _in_memory(resized(), shape)
    text = f"{FORMAT} {own} {fingerprint}".encode("utf-8", "surrogatepass")  # with any file names
    key = hashlib.sha256(text).hexdigest()[:16]
    shown = height if height == width else f"{height}x{width}"
    pixels = cache / f"{name}-{shown}px-{key}.npy"
    rows = pixels.with_suffix(".json")
    if rows.is_file() and pixels.is_file():
        try:
            return _mapped(pixels, rows)
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s is damaged (%s): decoding anew", pixels, error)
    logger.info("decoding %d images once, into %s", count, pixels)
    _write(resized(), shape, pixels, rows)
    return _mapped(pixels, rows)


class ImageCache:
    """All images of some folders, stretched to one size as networks' own inputs are.

    Unreadable images are left out and named in the log.

    Args:
        folders: each is searched for images, not deeper.
        side: of squares, or height and width; pixels.
        cache: folder for the file.
        most: takes so many readable images, chosen at random (seed 0), in random order; None takes
            all.

    Attributes:
        pixels: [N, H, W, 3] uint8 RGB, read-only.
        paths: [N] of the images, in the folders' order, sorted within each; see ``most``.
        unreadable: number of images that were left out.
        fingerprint: another one for other files.

    Raises:
        FileNotFoundError: a folder that is missing or holds no image.
        ValueError: no image can be read.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        side: int | tuple[int, int],
        cache: str | Path,
        *,
        most: int | None = None,
    ) -> None:
        paths = [path for folder in folders for path in require_images(folder)]
        if most is not None:
            order = np.random.default_rng(0).permutation(len(paths))
            paths = [paths[row] for row in order]
        wanted = len(paths) if most is None else min(most, len(paths))

        size = (side, side) if isinstance(side, int) else side

        def resized() -> Iterator[Image | None]:
            start = found = 0
            with ThreadPoolExecutor() as pool:
                while found < wanted and start < len(paths):
                    batch = paths[start : start + wanted - found]
                    start += len(batch)
                    for image in pool.map(lambda path: _stretched(path, size), batch):
                        found += image is not None
                        yield image
            if not found:
                raise ValueError(f"{paths[0].parent}: none of its images can be read")

        self.fingerprint = "".join(
            f"{path}\0{length}\0{time}\0"
            for path in paths
            for length, time in (size_and_time(path),)
        )
        if most is not None:
            self.fingerprint = f"{most}\0{self.fingerprint}"
        decoded = decoded_images(resized, wanted, side, Path(cache), "images", self.fingerprint)
        self.pixels = decoded.pixels
        self.paths = [paths[row] for row in decoded.rows]
        tried = decoded.rows[-1] + 1 if len(self.paths) == wanted else len(paths)
        self.unreadable = tried - len(self.paths)

    def __len__(self) -> int:
        """Images."""
        return len(self.paths)


def require_images(folder: str | Path) -> list[Path]:
    """The images of a folder, by name.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
    """
    paths = images_in(folder)
    if not paths:
        raise FileNotFoundError(f"{folder}: holds no image ({', '.join(sorted(EXTENSIONS))})")
    return paths


def size_and_time(path: Path) -> tuple[int, int]:
    """A file's size in bytes and time of change in ns; -1, -1 where the system does not tell.

    That is so for a link that leads nowhere: reading it says what is wrong.
    """
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def names_and_sizes(files: Sequence[Path]) -> str:
    """A hash of the files' names, without their folders, and of their sizes."""
    digest = hashlib.sha256()
    for path in files:
        text = f"{path.name}\0{size_and_time(path)[0]}\0"
        digest.update(text.encode("utf-8", "surrogatepass"))  # any file name
    return digest.hexdigest()


def _in_memory(resized: Iterator[Image | None], shape: tuple[int, ...]) -> DecodedImages:
    pixels = np.empty(shape, np.uint8)
    rows: list[int] = []
    for row, image in enumerate(resized):
        if image is not None:
            pixels[len(rows)] = image
            rows.append(row)
    return DecodedImages(pixels[: len(rows)], rows)


def _mapped(pixels: Path, rows: Path) -> DecodedImages:
    content: Any = json.loads(rows.read_text(encoding="utf-8"))
    mapped = mapped_array(pixels)
    if len(mapped) != len(content["rows"]):
        raise ValueError(f"{len(mapped)} images, not {len(content['rows'])}")
    return DecodedImages(mapped, content["rows"])


def _write(
    resized: Iterator[Image | None], shape: tuple[int, ...], pixels: Path, rows: Path
) -> None:
    """Writes both files; the rows last, so that their presence means that all is there."""
    kept: list[int] = []
    with replacing(pixels, durable=False) as partial, partial.open("wb") as file:
        write_array_header(file, "|u1", shape)
        for row, image in enumerate(resized):
            if image is not None:
                file.write(image.tobytes())
                kept.append(row)
        file.seek(0)
        write_array_header(file, "|u1", (len(kept), *shape[1:]))
    atomic_write(rows, json.dumps({"rows": kept}))


def _stretched(path: Path, size: tuple[int, int]) -> Image | None:
    try:
        image = read_image(path)
    except ImageReadError as error:
        logger.warning("left out: %s", error)
        return None
    # averaging when it shrinks much, as a thumbnail is made: cv2.resize alone would alias
    shrinks = all(own > 2 * wanted for own, wanted in zip(image.shape[:2], size, strict=True))
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cast("Image", cv2.resize(image, size[::-1], interpolation=method))
