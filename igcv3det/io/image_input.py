"""Images as Python programs have them: files, PIL images, arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from igcv3det.io.images import Image, ImageReadError, read_image

ImageSource = str | Path | PIL.Image.Image | NDArray[np.uint8]


def as_array(image: ImageSource) -> Image:
    """An image as uint8 RGB [H, W, 3].

    Raises:
        ImageReadError: the file is missing, cut off or no image.
        ValueError: an array of another type or shape, or a PIL image of mode F or I, whose values
            have no fixed range.
        TypeError: ``image`` is none of these.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, PIL.Image.Image):
        return _from_pil(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"an image is a path, a PIL image or a NumPy array, got {type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"an image array must be uint8 RGB [H, W, 3] with values 0..255, got {image.dtype} "
            f"{list(image.shape)}"
        )
    return image


def _from_pil(image: PIL.Image.Image) -> Image:
    if image.mode in ("F", "I"):
        raise ValueError(
            f"a PIL image of mode {image.mode} has no fixed range of values; scale it to 0..255 "
            "and convert it to a uint8 array"
        )
    try:
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # PIL would keep the lower 8 bits; files keep the upper
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if image.mode == "La":
            image = image.convert("LA")
        if "transparency" in image.info:  # PIL warns of palettes with several transparent entries
            image = image.convert("RGBA")
        return np.array(image.convert("RGB"))
    except OSError as error:  # PIL reads the file only now
        raise ImageReadError(f"{getattr(image, 'filename', '') or 'image'}: {error}") from None
