"""Drawing boxes and class names into images."""

from __future__ import annotations

import colorsys
import functools
import logging
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from igcv3det.io.fonts import Font, find_font
from igcv3det.io.images import Image as ImageArray
from igcv3det.structures import Categories, Detections

logger = logging.getLogger(__name__)

Colour = tuple[int, int, int]

# 25 hues in 4 shades (saturation, value): 100 different colours, those of neighbours far apart
HUE_STEP = 9 / 25
SHADES = ((0.95, 1.0), (0.55, 1.0), (1.0, 0.7), (0.6, 0.75))
FONT_SHARE = 1 / 30  # of the image's shorter side
MIN_FONT_PX, MAX_FONT_PX = 10, 48
LINE_SHARE = 1 / 200  # of the image's shorter side
GAP_PX = 4  # between two images side by side
BLACK, WHITE, GREY = (0, 0, 0), (255, 255, 255), (128, 128, 128)


def draw_detections(
    image: ImageArray, detections: Detections, *, show_scores: bool = True
) -> ImageArray:
    """Draws boxes with class name and score, the highest score on top.

    A class has a colour, or each id, which is drawn before the name, where there are ids. Without
    categories the labels are drawn. A name that no font of this system can show is replaced by its
    category id, with a warning in the log.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        detections: boxes in pixels of this image.
        show_scores: draw the score behind the name.

    Returns:
        A new uint8 [H, W, 3].

    Raises:
        ValueError: ``image`` has another type or shape.
    """
    labels = detections.labels.tolist()
    if detections.categories is None:
        names = [str(label) for label in labels]
    else:
        names = [_drawable_name(detections.categories, label) for label in labels]
    if show_scores:
        scores = detections.scores.tolist()
        names = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]
    numbers = labels
    if detections.ids is not None:
        numbers = detections.ids.tolist()
        names = [f"#{number} {name}" for number, name in zip(numbers, names, strict=True)]
    return draw_boxes(image, detections.boxes, names, [label_colour(n) for n in numbers])


def draw_boxes(
    image: ImageArray, boxes: Tensor, texts: Sequence[str], colours: Sequence[Colour]
) -> ImageArray:
    """Draws boxes with texts, the first on top.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        boxes: [N, 4] xyxy, pixels; they are clipped to the image.
        texts: [N]; letters that no font of this system has are drawn as question marks.
        colours: [N].

    Returns:
        A new uint8 [H, W, 3].

    Raises:
        ValueError: ``image`` has another type or shape.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image must be uint8 [H, W, 3], got {image.dtype} {image.shape}")
    canvas = Image.fromarray(image)  # a copy: PIL does not write into the array
    draw = ImageDraw.Draw(canvas)
    shorter_side = min(canvas.size)
    font_size = min(max(round(shorter_side * FONT_SHARE), MIN_FONT_PX), MAX_FONT_PX)
    line = max(1, round(shorter_side * LINE_SHARE))
    for box, text, colour in reversed(list(zip(boxes.tolist(), texts, colours, strict=True))):
        corners = _inside(box, canvas.size)
        draw.rectangle(corners, outline=colour, width=line)
        _draw_text(draw, text, (corners[0], corners[1]), font_size, colour)
    return np.array(canvas)


def draw_side_by_side(
    image: ImageArray, truth_boxes: Tensor, truth_names: Sequence[str], detections: Detections
) -> ImageArray:
    """Draws ground truth on the left and detections on the right.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        truth_boxes: [N, 4] xyxy, pixels of this image.
        truth_names: [N], the class names of these boxes.
        detections: boxes in pixels of this image; if they carry categories, each class has the same
            colour on both sides.

    Returns:
        A new uint8 [H, 2 * W + 4, 3].
    """
    categories = detections.categories or Categories((), ())
    labels = {name: label for label, name in enumerate(categories.names, start=1)}
    texts = [
        _drawable_name(categories, labels[name]) if name in labels else name for name in truth_names
    ]
    colours = [label_colour(labels[name]) if name in labels else GREY for name in truth_names]
    left = draw_boxes(image, truth_boxes, texts, colours)
    right = draw_detections(image, detections)
    gap = np.full((image.shape[0], GAP_PX, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def tile_images(images: Sequence[ImageArray], columns: int) -> ImageArray:
    """Arranges images in a grid, row by row, each in the middle of its white cell.

    Args:
        images: uint8 [H, W, 3] RGB each, of any sizes; at least one.
        columns: of the grid.

    Returns:
        A new uint8 [rows * (H' + 4), columns * (W' + 4), 3], H' and W' being the largest sides.
    """
    height = max(image.shape[0] for image in images) + GAP_PX
    width = max(image.shape[1] for image in images) + GAP_PX
    rows = -(-len(images) // columns)
    grid = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top = index // columns * height + (height - image.shape[0]) // 2
        left = index % columns * width + (width - image.shape[1]) // 2
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image
    return grid


def label_colour(label: int) -> Colour:
    """The colour of a label, unlike those of its neighbours.

    Example:
        >>> label_colour(1) == label_colour(1) != label_colour(2)
        True
    """
    saturation, value = SHADES[label % len(SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(label * HUE_STEP % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


@functools.cache
def _drawable_name(categories: Categories, label: int) -> str:
    """The class name, or the category id if no font has its letters."""
    name, category_id = categories.names[label - 1], categories.ids[label - 1]
    text = _printable(name)
    if not name or (text and find_font(text, MIN_FONT_PX)):
        return text
    logger.warning(
        "no font of this system has the letters of class %r: its category id %d is drawn instead",
        name,
        category_id,
    )
    return str(category_id)


def _printable(text: str) -> str:
    """The text on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _inside(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels of an image of (width, height), corners in order."""
    width, height = size
    xs = sorted(min(max(round(x), 0), width - 1) for x in (box[0], box[2]))
    ys = sorted(min(max(round(y), 0), height - 1) for y in (box[1], box[3]))
    return xs[0], ys[0], xs[1], ys[1]


def _draw_text(
    draw: ImageDraw.ImageDraw, text: str, corner: tuple[int, int], size: int, colour: Colour
) -> None:
    """Text on a plate above the corner, or below it where there is no room, within the image."""
    text, font = _with_font(_printable(text), size)
    width, height = draw.im.size
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = 2
    plate = round(right - left) + 2 * pad, round(bottom - top) + 2 * pad
    x = max(0, min(corner[0], width - plate[0]))
    y = corner[1] - plate[1]
    y = y if y >= 0 else max(0, min(corner[1], height - plate[1]))
    draw.rectangle((x, y, x + plate[0] - 1, y + plate[1] - 1), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, font=font, fill=_readable_on(colour))


def _with_font(text: str, size: int) -> tuple[str, Font]:
    font = find_font(text, size)
    if font is None:
        text = text.encode("ascii", "replace").decode()
        font = find_font(text, size)
        assert font is not None  # every font has ASCII
    return text, font


def _readable_on(colour: Colour) -> Colour:
    """Black on light colours, white on dark ones (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE
