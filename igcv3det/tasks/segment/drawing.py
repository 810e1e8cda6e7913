"""Overlays of classes on images, and masks as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import cv2
import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray

from igcv3det.atomic_files import replacing
from igcv3det.io.drawing import (
    FONT_SHARE,
    MAX_FONT_PX,
    MIN_FONT_PX,
    draw_boxes,
    label_colour,
)
from igcv3det.io.file_set import NewFiles
from igcv3det.io.frames import Frame
from igcv3det.io.images import Image
from igcv3det.tasks.segment.masks import Mask
from igcv3det.tasks.segment.predictor import Segmentation

OPACITY = 0.55
LEGEND_SHARE = 0.005
"""Classes with fewer of the pixels are left out of the legend."""
_LINE = 1.5  # of the legend, in font heights


def class_colours(num_classes: int) -> NDArray[np.uint8]:
    """[K, 3] RGB, a colour for each class."""
    return np.array([label_colour(label) for label in range(num_classes)], np.uint8)


def draw_segmentation(image: Image, found: Segmentation) -> Image:
    """Colours the pixels of an image by class, with the names of the classes at the left edge.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        found: with a mask of the same height and width.

    Returns:
        A new uint8 [H, W, 3].

    Raises:
        ValueError: the mask has another size.
    """
    mixed = colour_pixels(image, found.mask, len(found.classes.names))
    colours = class_colours(len(found.classes.names))
    named = [name for name, share in found.shares.items() if share >= LEGEND_SHARE]
    size = min(max(round(min(image.shape[:2]) * FONT_SHARE), MIN_FONT_PX), MAX_FONT_PX)
    bottoms = (np.arange(len(named)) + 1) * size * _LINE
    corners = torch.tensor(np.stack([bottoms * 0, bottoms, bottoms * 0, bottoms], axis=1))
    order = [found.classes.names.index(name) for name in named]
    own = [tuple(int(value) for value in colours[label]) for label in order]
    return draw_boxes(mixed, corners, named, own)  # type: ignore[arg-type]


def colour_pixels(image: Image, mask: Mask, num_classes: int) -> Image:
    """Colours the pixels of an image by class; those of no class stay as they are.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        mask: [H, W] uint8 classes; 255 is no class.
        num_classes: K.

    Raises:
        ValueError: the mask has another size.
    """
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask {mask.shape} and image {image.shape[:2]} differ in size")
    image = np.ascontiguousarray(image)
    counted = mask < num_classes
    colours = class_colours(num_classes)[np.where(counted, mask, 0)]
    mixed = cv2.addWeighted(image, 1 - OPACITY, colours, OPACITY, 0)
    if not counted.all():
        mixed[~counted] = image[~counted]
    return cast("Image", mixed)


class MaskFolder:
    """A folder of PNG masks, named after their images; frames of videos have numbers.

    The pixels are labels, as in the masks that the network was trained on; the palette has the
    colours of `draw_segmentation`.

    Args:
        folder: made if it does not exist.
        protected: files that are never written over, such as all sources of the run.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: Path, protected: list[Path]) -> None:
        self._new = NewFiles(folder, protected)

    def write(self, frame: Frame, found: Segmentation) -> Path:
        """Writes the mask of an image or frame.

        Raises:
            OSError: the file cannot be written.
        """
        stem = Path(str(frame.file)).stem
        path = self._new.name(stem if frame.index is None else f"{stem}_{frame.index:06d}", ".png")
        image = PIL.Image.fromarray(found.labels, "P")
        palette = np.zeros((256, 3), np.uint8)
        palette[list(found.classes.labels)] = class_colours(len(found.classes.labels))
        image.putpalette(palette.ravel().tolist())
        with replacing(path) as partial:
            image.save(partial, format="PNG")
        return path
