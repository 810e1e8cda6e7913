"""Sizes of images from the headers of their files, for formats that do not give them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import PIL.Image
from PIL.TiffImagePlugin import TiffImageFile

from igcv3det.datasets.builder import RecordBuilder
from igcv3det.datasets.issues import IssueKind
from igcv3det.datasets.values import whole_number
from igcv3det.io.images import ImageReadError, read_image

_ORIENTATION_TAG, _ON_ITS_SIDE = 0x0112, (5, 6, 7, 8)
_WITH_ORIENTATION = frozenset({"AVIF", "HEIF", "JPEG", "MPO", "TIFF", "WEBP", "PNG"})
_TIFF_SIDES = (0x0100, 0x0101)


def read_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels of an image as viewers show it: EXIF orientation applied.

    The frame in which labelling programs draw boxes, and in which YOLO's shares are meant.

    Raises:
        ImageReadError: there is no such file, or it is no image; names it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large sizes and damaged EXIF
            with PIL.Image.open(path) as image:
                width, height = image.size
                if isinstance(image, TiffImageFile):  # some versions of Pillow have turned it
                    width, height = (image.tag_v2[tag] for tag in _TIFF_SIDES)
                if image.format in _WITH_ORIENTATION and _is_on_its_side(image):
                    width, height = height, width
                return height, width
    except FileNotFoundError:
        raise ImageReadError(f"{path}: no such file") from None
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        decoded = read_image(path)  # a format that Pillow does not know
        return decoded.shape[0], decoded.shape[1]


class FrameSize(NamedTuple):
    """Of an image, in pixels.

    Attributes:
        height: of the frame that its boxes are in.
        width: likewise.
        is_upright: as in `datasets.record.ImageEntry`.
    """

    height: int
    width: int
    is_upright: bool


def stated_size(height: object, width: object, image: Path) -> FrameSize:
    """The size as an annotation states it, else that of the image's file.

    Raises:
        ImageReadError: the annotation does not state both, and the file cannot be read; names it.
    """
    stated = whole_number(height) or 0, whole_number(width) or 0
    if min(stated) >= 1:
        return FrameSize(*stated, is_upright=False)
    return FrameSize(*read_size(image), is_upright=True)


def size_or_issue(
    builder: RecordBuilder,
    image: Path,
    stated: tuple[object, object],
    file: Path | str,
    left_out: str,
    line: int = 0,
) -> FrameSize | None:
    """`stated_size`, or None where it is unknown, which becomes an issue.

    Args:
        builder: takes the issue where the annotation does not state both and the file cannot be
            read.
        image: its file.
        stated: height and width as the annotation has them; None for what it lacks.
        file: the label file, for the issue.
        left_out: what is left out then, for the issue.
        line: of the label file; 0 where it describes a single image.
    """
    try:
        return stated_size(*stated, image)
    except ImageReadError as error:
        kind: IssueKind = "unreadable file" if image.is_file() else "missing file"
        where = f"line {line}: " if line else ""
        builder.add_issue(kind, file, f"{where}{error}; {left_out}")
        return None


def _is_on_its_side(image: PIL.Image.Image) -> bool:
    if "exif" not in image.info and image.format in ("JPEG", "MPO"):
        return False
    return image.getexif().get(_ORIENTATION_TAG) in _ON_ITS_SIDE
