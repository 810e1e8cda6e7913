"""Detections drawn into images."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from igcv3det.io.images import Image as ImageArray
from igcv3det.structures import Detections

Colour = tuple[int, int, int]

# 25 hues in 4 shades (saturation, value): 100 labels before a colour returns, neighbours far apart
HUE_STEP = 9 / 25
SHADES = ((0.95, 1.0), (0.55, 1.0), (1.0, 0.7), (0.6, 0.75))
FONT_SHARE = 1 / 30  # of the image's smaller side
MIN_FONT_PX, MAX_FONT_PX = 10, 48
LINE_SHARE = 1 / 200  # of the image's smaller side
GAP_PX = 4  # between two images side by side
BLACK, WHITE, GREY = (0, 0, 0), (255, 255, 255), (128, 128, 128)


def draw_detections(
    image: ImageArray, detections: Detections, *, show_scores: bool = True
) -> ImageArray:
    """Boxes with class name and score.

    The better detections are drawn over the weaker ones. Without categories the labels are written
    as numbers.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        detections: boxes in pixels of this image.
        show_scores: write the score behind the name.

    Returns:
        A new uint8 [H, W, 3].

    Raises:
        ValueError: not such an image.
    """
    labels = detections.labels.tolist()
    names = [str(label) for label in labels] if detections.categories is None else detections.names
    if show_scores:
        scores = detections.scores.tolist()
        names = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]
    return draw_boxes(image, detections.boxes, names, [label_colour(label) for label in labels])


def draw_boxes(
    image: ImageArray, boxes: Tensor, texts: Sequence[str], colours: Sequence[Colour]
) -> ImageArray:
    """Boxes with texts, the first on top.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        boxes: [N, 4] xyxy, pixels; parts outside the image are cut off.
        texts: one a box; it stays inside the image as far as it fits.
        colours: one a box.

    Returns:
        A new uint8 [H, W, 3].

    Raises:
        ValueError: not such an image.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"image must be uint8 [H, W, 3], got {image.dtype} {image.shape}")
    canvas = Image.fromarray(image)  # a copy: PIL does not write into the array
    draw = ImageDraw.Draw(canvas)
    small_side = min(canvas.size)
    font = _font(small_side)
    line = max(1, round(small_side * LINE_SHARE))
    for box, text, colour in reversed(list(zip(boxes.tolist(), texts, colours, strict=True))):
        corners = _inside(box, canvas.size)
        draw.rectangle(corners, outline=colour, width=line)
        _write(draw, text, (corners[0], corners[1]), font, colour)
    return np.array(canvas)


def draw_side_by_side(
    image: ImageArray, truth_boxes: Tensor, truth_names: Sequence[str], detections: Detections
) -> ImageArray:
    """Ground truth on the left, detections on the right.

    Args:
        image: uint8 [H, W, 3] RGB; it is not changed.
        truth_boxes: [N, 4] xyxy, pixels of this image.
        truth_names: class names of these boxes.
        detections: boxes in pixels of this image; objects of one name have one colour on both sides
            if the detections carry categories.

    Returns:
        A new uint8 [H, 2 * W + 4, 3].
    """
    known = detections.categories.names if detections.categories else ()
    colours = [
        label_colour(known.index(name) + 1) if name in known else GREY for name in truth_names
    ]
    left = draw_boxes(image, truth_boxes, truth_names, colours)
    right = draw_detections(image, detections)
    gap = np.full((image.shape[0], GAP_PX, 3), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def label_colour(label: int) -> Colour:
    """A colour that is always the same for a label and unlike its neighbours'.

    Example:
        >>> label_colour(1) == label_colour(1) != label_colour(2)
        True
    """
    saturation, value = SHADES[label % len(SHADES)]
    red, green, blue = colorsys.hsv_to_rgb(label * HUE_STEP % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def _font(small_side: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    size = min(max(round(small_side * FONT_SHARE), MIN_FONT_PX), MAX_FONT_PX)
    return ImageFont.load_default(size)


def _inside(box: Sequence[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels of an image of (width, height), corners in order."""
    width, height = size
    xs = sorted(min(max(round(x), 0), width - 1) for x in (box[0], box[2]))
    ys = sorted(min(max(round(y), 0), height - 1) for y in (box[1], box[3]))
    return xs[0], ys[0], xs[1], ys[1]


def _write(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    colour: Colour,
) -> None:
    """Text on a plate above the corner, or below it where there is no room, within the image."""
    text = " ".join(text.split())
    if not isinstance(font, ImageFont.FreeTypeFont):  # PIL without FreeType: Latin letters only
        text = text.encode("latin-1", "replace").decode("latin-1")
    width, height = draw.im.size
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    pad = 2
    plate = round(right - left) + 2 * pad, round(bottom - top) + 2 * pad
    x = max(0, min(corner[0], width - plate[0]))
    y = corner[1] - plate[1]
    y = y if y >= 0 else max(0, min(corner[1], height - plate[1]))
    draw.rectangle((x, y, x + plate[0] - 1, y + plate[1] - 1), fill=colour)
    draw.text((x + pad - left, y + pad - top), text, font=font, fill=_readable_on(colour))


def _readable_on(colour: Colour) -> Colour:
    """Black on light colours, white on dark ones (luma of ITU-R BT.601)."""
    red, green, blue = colour
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE
