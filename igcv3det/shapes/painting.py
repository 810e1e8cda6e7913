"""Pixels of the synthetic images: backgrounds, clutter without a class, and textured outlines.

The classes of `igcv3det.shapes.dataset` differ in outline only. Colours, textures and light are
random, from a generator of their own, so that annotations do not depend on pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from igcv3det.shapes.outlines import Contours

_Canvas = NDArray[np.float32]
_Mask = NDArray[np.uint8]

_SUPERSAMPLING = 4
"""Sub-pixels along the side of a pixel when an outline is filled."""
_VIVID_CLUTTER = 0.25
"""Share of the clutter in the colours of objects."""
_MIN_CONTRAST = 100.0
"""Distance in RGB, 0..255 each, between an object's colour and the pixels under it."""


def paint_scene(
    rng: np.random.Generator, height: int, width: int, objects: Sequence[Contours]
) -> NDArray[np.uint8]:
    """Paints an image of the objects, each over the previous ones.

    Args:
        rng: random generator.
        height: of the image, pixels.
        width: of the image, pixels.
        objects: outlines from back to front, pixels; they may leave the image.

    Returns:
        [height, width, 3] RGB.
    """
    canvas = _background(rng, height, width)
    clutter = (_line, _arc, _blob, _letter)
    for kind in rng.integers(len(clutter), size=rng.integers(2, 8)):
        colour = _vivid(rng) if rng.random() < _VIVID_CLUTTER else _muted(rng)
        _blend(canvas, clutter[kind](rng, height, width), colour)
    for contours in objects:
        _paint_object(rng, canvas, contours)
    for _ in range(rng.integers(0, 3)):
        _blend(canvas, _line(rng, height, width), _muted(rng))
    return _expose(rng, canvas)


def fill_outline(contours: Contours, left: int, top: int, right: int, bottom: int) -> _Mask:
    """[bottom - top, right - left] share of each pixel inside the contours, 0..255."""
    fine = np.zeros(((bottom - top) * _SUPERSAMPLING, (right - left) * _SUPERSAMPLING), np.uint8)
    # Pixel (i, j) covers i..i+1, j..j+1 in the annotations' frame; OpenCV's sub-pixels are centres.
    scaled = [(contour - (left, top)) * _SUPERSAMPLING - 0.5 for contour in contours]
    fixed = [np.round(contour * 16).astype(np.int32) for contour in scaled]
    cv2.fillPoly(fine, fixed, 255, cv2.LINE_8, 4)
    size = (right - left, bottom - top)
    return np.asarray(cv2.resize(fine, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _muted(rng: np.random.Generator) -> _Canvas:
    """A greyish RGB colour, 0..255, for backgrounds and most clutter."""
    grey = rng.uniform(30, 225)
    return np.clip(grey + rng.uniform(-25, 25, 3), 0, 255).astype(np.float32)


def _vivid(rng: np.random.Generator) -> _Canvas:
    """A saturated RGB colour, 0..255, for objects and some clutter."""
    hue, saturation, value = rng.uniform(0, 6), rng.uniform(0.6, 1), rng.uniform(150, 255)
    # Each channel decreases with the distance of the hue from its own on the colour circle
    distance = np.abs((hue - np.array([0.0, 2.0, 4.0]) + 3) % 6 - 3)
    channels = value * (1 - saturation * np.clip(distance - 1, 0, 1))
    return np.asarray(channels, dtype=np.float32)


def _blend(canvas: _Canvas, mask: _Mask, paint: _Canvas) -> None:
    """Blends paint [3] or [H, W, 3] into the canvas [H, W, 3] in place, weighted by the mask."""
    x, y, width, height = cv2.boundingRect(mask)
    part = (slice(y, y + height), slice(x, x + width))
    share = mask[part][..., None].astype(np.float32) / 255
    canvas[part] += share * ((paint[part] if paint.ndim == 3 else paint) - canvas[part])


def _patches(rng: np.random.Generator, height: int, width: int, cells: int) -> _Canvas:
    """[height, width] smooth random field, about -1..1, of ``cells`` cells along a side."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, dtype=np.float32)


def _ramp(height: int, width: int, angle: float) -> _Canvas:
    """[height, width] linear gradient along a direction, from about -0.5 to 0.5."""
    x = np.linspace(-0.5, 0.5, width)[None, :]
    y = np.linspace(-0.5, 0.5, height)[:, None]
    return np.asarray(np.cos(angle) * x + np.sin(angle) * y, dtype=np.float32)


def _background(rng: np.random.Generator, height: int, width: int) -> _Canvas:
    """A gradient between two colours, with patches."""
    share = 0.5 + _ramp(height, width, rng.uniform(0, 2 * np.pi))
    strength = np.float32(rng.uniform(0, 0.4))
    share += strength * _patches(rng, height, width, int(rng.integers(3, 14)))
    share = np.clip(share, 0, 1)[..., None]
    return np.asarray(_muted(rng) * (1 - share) + _muted(rng) * share, dtype=np.float32)


def _line(rng: np.random.Generator, height: int, width: int) -> _Mask:
    """Mask of a thin line with up to three bends."""
    mask = np.zeros((height, width), np.uint8)
    points = rng.uniform(-0.1, 1.1, (rng.integers(2, 6), 2)) * (width, height)
    fixed = np.round(points * 16).astype(np.int32)
    cv2.polylines(mask, [fixed], False, 255, int(rng.integers(1, 4)), cv2.LINE_AA, 4)
    return mask


def _arc(rng: np.random.Generator, height: int, width: int) -> _Mask:
    """Mask of an open arc, at most 160 degrees so that it is no ring."""
    mask = np.zeros((height, width), np.uint8)
    centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
    axes = (int(rng.uniform(0.04, 0.3) * width), int(rng.uniform(0.04, 0.3) * width))
    start, sweep = rng.uniform(0, 360), rng.uniform(40, 160)
    thickness = int(rng.integers(1, 7))
    cv2.ellipse(mask, centre, axes, 0, start, start + sweep, 255, thickness, cv2.LINE_AA)
    return mask


def _blob(rng: np.random.Generator, height: int, width: int) -> _Mask:
    """Mask of an irregular blob: a circle of varying radius."""
    mask = np.zeros((height, width), np.uint8)
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = np.ones_like(turn)
    for waves in (2, 3, 5):
        radius += rng.uniform(0.1, 0.25) * np.sin(waves * turn + rng.uniform(0, 2 * np.pi))
    radius *= min(height, width) * rng.uniform(0.03, 0.15)
    points = radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    points += rng.uniform(0, 1, 2) * (width, height)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def _letter(rng: np.random.Generator, height: int, width: int) -> _Mask:
    """Mask of a letter that resembles no class."""
    mask = np.zeros((height, width), np.uint8)
    origin = (int(rng.uniform(0, 0.9) * width), int(rng.uniform(0.1, 1) * height))
    scale, thickness = rng.uniform(0.5, 3), int(rng.integers(1, 5))
    letter = "EFHKLMNSWZ234579"[rng.integers(16)]
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(mask, letter, origin, font, scale, 255, thickness, cv2.LINE_AA)
    return mask


def _paint_object(rng: np.random.Generator, canvas: _Canvas, contours: Contours) -> None:
    """Fills one outline with a texture of sufficient contrast, in place."""
    height, width = canvas.shape[:2]
    points = np.concatenate(contours)
    left, top = np.maximum(np.floor(points.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(points.max(axis=0)) + 1, (width, height)).astype(int)
    area = canvas[top:bottom, left:right]
    mask = fill_outline(contours, left, top, right, bottom)
    if rng.random() < 0.3:
        shadow = rng.uniform(0.3, 0.7)
        shift = np.array([[1, 0, rng.uniform(-4, 4)], [0, 1, rng.uniform(1, 4)]])
        cast = np.asarray(cv2.warpAffine(mask, shift, (right - left, bottom - top)), np.uint8)
        _blend(area, cast, area * np.float32(1 - shadow))
    _blend(area, mask, _texture(rng, bottom - top, right - left, _contrasting(rng, area, mask)))


def _contrasting(rng: np.random.Generator, area: _Canvas, mask: _Mask) -> _Canvas:
    """The first of some random colours with enough contrast to the pixels under the mask."""
    covered = mask > 127
    under = area[covered].mean(axis=0) if covered.any() else area.mean(axis=(0, 1))
    colours = np.stack([_vivid(rng) for _ in range(8)])
    distances = np.linalg.norm(colours - under, axis=1)
    enough = distances >= _MIN_CONTRAST
    chosen = np.argmax(enough) if enough.any() else np.argmax(distances)
    return np.asarray(colours[chosen], dtype=np.float32)


def _texture(rng: np.random.Generator, height: int, width: int, colour: _Canvas) -> _Canvas:
    """[height, width, 3]: the colour, plain, shaded, striped, chequered or mottled."""
    change = rng.choice([-1.0, 1.0], 3) * rng.uniform(15, 45, 3)
    angle, period = rng.uniform(0, np.pi), rng.uniform(4, 14)
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    along = (np.cos(angle) * x + np.sin(angle) * y) / period
    across = (np.cos(angle) * y - np.sin(angle) * x) / period
    kind = rng.choice(["plain", "shaded", "striped", "chequered", "mottled"])
    share = np.zeros((height, width))
    if kind == "shaded":
        share += _ramp(height, width, angle)
    elif kind == "striped":
        share += np.sin(2 * np.pi * along) / 2
    elif kind == "chequered":
        share += np.sign(np.sin(np.pi * along) * np.sin(np.pi * across)) / 2
    elif kind == "mottled":
        share += _patches(rng, height, width, int(rng.integers(3, 9)))
    return np.clip(colour + share[..., None] * change, 0, 255).astype(np.float32)


def _expose(rng: np.random.Generator, canvas: _Canvas) -> NDArray[np.uint8]:
    """Applies uneven light, blur and noise, and rounds to 8 bits."""
    height, width = canvas.shape[:2]
    light = 1 + np.float32(rng.uniform(0, 0.5)) * _ramp(height, width, rng.uniform(0, 2 * np.pi))
    lit = canvas * light[..., None]
    if rng.random() < 0.3:
        lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.4, 1.0)), dtype=np.float32)
    lit += rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(0, 8))
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)
