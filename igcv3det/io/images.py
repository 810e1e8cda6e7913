"""Reading and writing image files.

A camera stores pixels in its own frame, and in the EXIF orientation the turn that a viewer has to
apply. Boxes mean nothing until one says which of the two frames they are in: `read_image` is told.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""[H, W, 3] RGB, 0..255."""

EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Endings, in lower case, of the files that `read_image` is meant for."""


class ImageReadError(ValueError):
    """A file that cannot be read as an image; the message names it."""


class ImageSizeError(ImageReadError):
    """An image that has another size than its annotations say."""


def read_image(path: str | Path, size: tuple[int, int] | None = None) -> Image:
    """Reads an image of any common kind as 8-bit RGB.

    Grey and palette images become RGB, CMYK is converted, 16 bits are cut to the upper 8,
    transparency is left out, and of an animation the first frame is taken.

    Args:
        path: JPEG, PNG, WebP, GIF, BMP or TIFF.
        size: (height, width) of the frame that annotations were made in. None turns the image as
            viewers do. Otherwise it is turned only if it does not fit the size as stored: where
            both fit (a square, a turn by 180 degrees) it stays as stored, which is COCO's practice.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        ImageReadError: there is no such file, it is cut off, or no image.
        ImageSizeError: it does not fit ``size``, turned or not.
    """
    path = Path(path)
    data = _read_bytes(path)
    if size is None:
        return _decode(path, data, cv2.IMREAD_COLOR_RGB)
    image = _decode(path, data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    if image.shape[:2] == size:
        return image
    turned = _decode(path, data, cv2.IMREAD_COLOR_RGB)
    if turned.shape[:2] == size:
        return turned
    (height, width), (stored_height, stored_width) = size, image.shape[:2]
    raise ImageSizeError(
        f"{path}: the image is {stored_width} x {stored_height} pixels, but its annotations say "
        f"width {width}, height {height}; correct these fields or put back the annotated file"
    )


def decode_image(data: bytes, name: str) -> Image:
    """An image that is in memory already, turned as viewers do, as 8-bit RGB [H, W, 3].

    Args:
        data: the content of a file of any format that `read_image` takes.
        name: what to call it in errors.

    Raises:
        ImageReadError: it is empty, cut off, or no image.
    """
    if not data:
        raise ImageReadError(f"{name}: the file is empty")
    return _decode(name, np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def write_image(path: str | Path, image: Image) -> None:
    """Writes an image in the format that the file name ends in.

    Args:
        path: its folder must exist.
        image: [H, W, 3] uint8 RGB.

    Raises:
        ValueError: the name ends in no known format.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in EXTENSIONS:
        raise ValueError(f"{path}: an image's name must end in one of {sorted(EXTENSIONS)}")
    _, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    path.write_bytes(data.tobytes())


def _read_bytes(path: Path) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError:
        raise ImageReadError(f"{path}: no such file") from None
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be read: {error.strerror}") from None
    if data.size == 0:
        raise ImageReadError(f"{path}: the file is empty")
    return data


def _decode(path: Path | str, data: NDArray[np.uint8], flags: int) -> Image:
    try:
        image = cv2.imdecode(data, flags)
    except cv2.error as error:
        raise ImageReadError(f"{path}: cannot be decoded: {error.err}") from None
    if image is None:
        raise ImageReadError(f"{path}: not an image, or cut off")
    return cast("Image", image)
