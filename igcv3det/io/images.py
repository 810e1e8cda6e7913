"""Image files as 8-bit RGB arrays, and arrays as image files.

A camera stores pixels in its own frame, and in the EXIF orientation how a viewer has to rotate
or flip them. Boxes refer to one of the two frames; `read_image` tells which by the annotated size.
"""

from __future__ import annotations

import functools
import importlib
import io
import re
import struct
import unicodedata
import warnings
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import PIL.features
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray

from igcv3det.atomic_files import atomic_write
from igcv3det.io.png import png_damage
from igcv3det.io.tiff import has_wide_values, without_multiplying, without_orientation

Image = NDArray[np.uint8]
"""[H, W, 3] RGB, 0..255."""

WRITE_EXTENSIONS = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""Name endings, in lower case, of the formats that `write_image` writes."""

EXTENSIONS = WRITE_EXTENSIONS | {".avif", ".dib", ".heic", ".heif", ".jfif", ".jp2", ".jpe"}
"""Name endings, in lower case, by which an image is found in a folder."""

SIZED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "AVIF")
"""Pillow's names of the formats whose size `stored_size` finds."""


# Images and sequences of images, coded as H.265 (ISO/IEC 23008-12, annex B), and any HEIF
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# Of Pillow's plugins, for damaged files
_PILLOW_ERRORS = (
    *(OSError, ValueError, SyntaxError, RuntimeError, MemoryError, struct.error),
    PIL.Image.DecompressionBombError,
)
# PFM and 2-byte PNM with a maximum below 65535: OpenCV does not scale them to 0..255
_PORTABLE_MAP = re.compile(rb"P(?:[Ff]|[2356](?:\s+(?:#[^\n]*\n)*\d+){2}\s+(?:#[^\n]*\n)*(\d+))\s")


class ImageReadError(ValueError):
    """A file that cannot be read as an image or video; the message names it."""


class ImageSizeError(ImageReadError):
    """An image whose size differs from its annotations."""


def read_image(
    path: str | Path, size: tuple[int, int] | None = None, *, is_upright: bool = False
) -> Image:
    """Reads an image file as 8-bit RGB.

    Grey, palette and CMYK images are converted to RGB, 16-bit values are cut to the upper 8 bits,
    transparency is dropped, and an animation gives its first frame.

    Args:
        path: JPEG, PNG, WebP, GIF, BMP, TIFF, JPEG 2000, AVIF, or HEIC with ``pillow-heif``
            installed. The format is recognised by content, not by name.
        size: (height, width) of the annotated image. None applies the EXIF orientation.
            Otherwise the orientation is applied only if the stored image does not have this size:
            where both fit (a square, a rotation by 180 degrees), the stored pixels are returned, as
            COCO's own tools do.
        is_upright: ``size`` is that with the orientation applied.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        ImageReadError: the file does not exist, is truncated, is no image, or has values of
            unknown range.
        ImageSizeError: the image does not have ``size``, as stored or oriented.
    """
    data = _read_bytes(Path(path))
    if size is None:
        return decode_image(data, str(path))
    image = _decode(data, str(path), oriented=False)
    if image.shape[:2] == size and not is_upright:
        return image
    oriented = decode_image(data, str(path))
    if oriented.shape[:2] == size:
        return oriented
    (height, width), (stored_height, stored_width) = size, image.shape[:2]
    raise ImageSizeError(
        f"{path}: the image is {stored_width} x {stored_height} pixels, but its annotations say "
        f"width {width}, height {height}; correct these fields or put back the annotated file"
    )


def decode_image(data: bytes, name: str) -> Image:
    """The content of an image file as 8-bit RGB, with the EXIF orientation applied.

    Args:
        data: of any format that `read_image` reads.
        name: of the image, for error messages.

    Returns:
        [H, W, 3] uint8 RGB.

    Raises:
        ImageReadError: ``data`` is empty, truncated, no image, or has values of unknown range.
    """
    return _decode(data, name, oriented=True)


def stored_size(data: bytes, name: str) -> tuple[int, int]:
    """(height, width) in the header of an image file: no pixel is decoded.

    Args:
        data: of a format in ``SIZED_FORMATS``, or HEIC with ``pillow-heif`` installed.
        name: of the image, for error messages.

    Returns:
        In pixels, as stored, before the EXIF orientation is applied.

    Raises:
        ImageReadError: ``data`` is none of these, or has a damaged header.
        PIL.Image.DecompressionBombError: more pixels than twice Pillow's ``MAX_IMAGE_PIXELS``.
    """
    formats = [*SIZED_FORMATS, *(["HEIF"] if _register_heif() else [])]
    PIL.Image.init()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large sizes: the caller has a limit
            known = [kind for kind in formats if kind in PIL.Image.OPEN]
            with PIL.Image.open(io.BytesIO(data), formats=known) as image:
                width, height = image.size
                return height, width
    except PIL.Image.DecompressionBombError:
        raise
    except PIL.UnidentifiedImageError:
        heif = data[4:8] == b"ftyp"
        reason = _why_unidentified(data[8:12]) if heif else "not an image, or cut off"
        raise ImageReadError(f"{name}: {reason}") from None
    except _PILLOW_ERRORS as error:
        raise ImageReadError(f"{name}: cannot be decoded: {error}") from None


def write_image(path: str | Path, image: Image) -> None:
    """Writes an image, as a whole, in the format of the file name's ending.

    Args:
        path: its folder is made if it does not exist.
        image: [H, W, 3] uint8 RGB.

    Raises:
        ValueError: the ending is not one of ``WRITE_EXTENSIONS``.
        OSError: the image cannot be encoded in this format, or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in WRITE_EXTENSIONS:
        raise ValueError(f"{path}: an image's name must end in one of {sorted(WRITE_EXTENSIONS)}")
    try:
        is_encoded, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error:
        is_encoded = False
    if not is_encoded:
        height, width = image.shape[:2]
        raise OSError(f"{path}: {suffix} cannot hold an image of {width} x {height} pixels")
    try:
        atomic_write(path, data.tobytes(), durable=False)
    except OSError as error:
        if not error.strerror:  # a full disk, with the file's name
            raise
        raise OSError(f"{path}: cannot be written: {error.strerror}") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageReadError(f"{path}: no such file{_similar_name(path)}") from None
    except OSError as error:
        raise ImageReadError(f"{path}: cannot be read: {error.strerror}") from None


def _similar_name(path: Path) -> str:
    """A hint at a file of nearly this name, as archives of other systems leave it."""
    candidates = {
        "in another Unicode normalisation": (
            unicodedata.normalize("NFC", str(path)),
            unicodedata.normalize("NFD", str(path)),
        ),
        "with slashes": (str(path).replace("\\", "/"),),
    }
    for kind, names in candidates.items():
        if any(name != str(path) and Path(name).is_file() for name in names):
            return f"; there is one of this name {kind}"
    return ""


def _decode(data: bytes, name: str, *, oriented: bool) -> Image:
    """[H, W, 3] uint8 RGB; ``oriented``: with the EXIF orientation applied."""
    if not data:
        raise ImageReadError(f"{name}: the file is empty")
    if data[4:8] == b"ftyp":  # AVIF, whose orientation OpenCV ignores, and HEIC
        return _decode_with_pillow(data, name, oriented=oriented)
    match = _PORTABLE_MAP.match(data)
    if match and (match[1] is None or 255 < int(match[1]) < 65535):
        raise ImageReadError(f"{name}: a PFM, or a PNM of 9 to 15 bits, is not supported")
    if damage := png_damage(data):
        raise ImageReadError(f"{name}: {damage}")
    flags = cv2.IMREAD_COLOR_RGB
    if not oriented:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
        data = without_orientation(data)
    data = without_multiplying(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise ImageReadError(f"{name}: cannot be decoded: {error.err}") from None
    if image is None:
        if has_wide_values(data):
            raise ImageReadError(f"{name}: values of more than 16 bits: scale them to 0..255")
        raise ImageReadError(f"{name}: not an image, or cut off")
    return cast("Image", image)


def _decode_with_pillow(data: bytes, name: str, *, oriented: bool) -> Image:
    _register_heif()
    try:
        with PIL.Image.open(io.BytesIO(data)) as image:
            image.load()
            upright = PIL.ImageOps.exif_transpose(image) if oriented else image
            return np.array(upright.convert("RGB"))
    except PIL.UnidentifiedImageError:
        raise ImageReadError(f"{name}: {_why_unidentified(data[8:12])}") from None
    except _PILLOW_ERRORS as error:
        raise ImageReadError(f"{name}: cannot be decoded: {error}") from None


@functools.cache
def _register_heif() -> bool:
    """Lets Pillow read HEIC; False if ``pillow-heif`` is not installed."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def _why_unidentified(brand: bytes) -> str:
    if brand in (b"avif", b"avis") and not PIL.features.check("avif"):
        return "AVIF images need pillow 11.3 or later"
    if brand in _HEIF_BRANDS and not _register_heif():
        return "HEIC images need another package: pip install 'igcv3det[heic]'"
    return "not an image, or cut off"
