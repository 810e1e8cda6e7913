"""Anchors, the default boxes of SSD, from the configuration and the sizes of the feature maps.

Liu et al., SSD, arXiv:1512.02325, section 2.2 "Choosing scales and aspect ratios for default
boxes". Two layouts of the same idea are known: torchvision's ``DefaultBoxGenerator`` (3234 anchors
at 320 px) and ``create_ssd_anchors`` of TensorFlow's object_detection (1917 at 300 px). A trained
head only fits the layout it was trained with.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igcv3det.config import AnchorConfig, Padding

# The one fixed number of TensorFlow's reduced finest map (multiple_grid_anchor_generator.py).
_REDUCED_SCALE = 0.1


def generate_anchors(
    config: AnchorConfig,
    image_size: int,
    feature_sizes: Sequence[tuple[int, int]],
    padding: Padding = "symmetric",
) -> Tensor:
    """Places the anchors of every level on a square input.

    Centres are ``(i + 0.5) / cells`` of the real map, so that they are right for any input size; no
    stride is assumed. Corners are not clipped: anchors at the border reach over it. The torchvision
    layout limits width and height to the input's side, the TensorFlow layout does not.

    Where the weights were trained at another size (``config.trained_size``), anchors have the
    pixels that they had there: a convolution knows pixels, not shares of the image. Their centres
    lie around the pixel that a cell reads as they did there. Where that pixel lies depends on the
    parity of the maps' sides, and the distance between both on the place in the image. Each map is
    half of the one before.

    Args:
        config: scales, ratios and layout.
        image_size: side of the network input, pixels.
        feature_sizes: (height, width) in cells of each level, finest first.
        padding: of the network at stride 2; only read for ``config.trained_size``.

    Returns:
        [A, 4] float32 xyxy, pixels of the network input. Level by level; within a level row by row;
        the shapes of a cell change fastest.

    Raises:
        ValueError: no levels, a map without cells, or, with ``config.trained_size``, a first map
            that halving the input does not make.

    Example:
        >>> generate_anchors(AnchorConfig(aspect_ratios=()), 100, [(1, 1)]).tolist()[0]
        [40.0, 40.0, 60.0, 60.0]
    """
    shapes = cell_shapes(config, len(feature_sizes))
    trained = config.trained_size or image_size
    levels = []
    for level, (shape, sides) in enumerate(zip(shapes, feature_sizes, strict=True)):
        if min(sides) < 1:
            raise ValueError(f"a feature map must have cells, got {sides[0]} x {sides[1]}")
        if trained == image_size:
            y, x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n for n in sides)
        else:
            halvings = _halvings(image_size, feature_sizes[0][0]) + level
            x = y = _moved_centres(image_size, trained, halvings, padding) / image_size
        of_cell = torch.tensor(shape, dtype=torch.float64) * (trained / image_size)
        levels.append(_tile(of_cell, y, x))
    # Double precision until here, so that the left half mirrors the right half.
    return (torch.cat(levels) * image_size).to(torch.float32)


def anchors_per_cell(config: AnchorConfig, levels: int) -> list[int]:
    """The number of anchors in one cell of each level, finest first.

    Raises:
        ValueError: fewer than one level.
    """
    return [len(shapes) for shapes in cell_shapes(config, levels)]


def cell_shapes(config: AnchorConfig, levels: int) -> list[list[tuple[float, float]]]:
    """The (width, height) of every anchor of a cell, as shares of the input's side, level by level.

    Scales rise linearly from ``min_scale`` to ``max_scale``; the square between two levels has the
    geometric mean of their scales, on the last level of its own and 1. A single level spans
    ``min_scale`` to ``max_scale``, as in torchvision. ``shapes`` of the configuration are taken as
    they are. A map of stride 8 (``stride8_scale``) comes first and does not change the others; its
    shapes are of ``stride8_scale``, its second square lies between that and ``min_scale``.

    Raises:
        ValueError: fewer than one level, or not as many as ``shapes`` has.
    """
    if levels < 1:
        raise ValueError(f"anchors need at least one feature map, got {levels}")
    is_listed = config.shapes is not None and len(config.shapes) != levels - 1
    if config.stride8_scale is not None and not is_listed:
        others = cell_shapes(replace(config, stride8_scale=None), levels - 1)
        return [_stride8_shapes(config, config.stride8_scale), *others]
    if config.shapes is not None:
        if len(config.shapes) != levels:
            raise ValueError(
                f"anchors.shapes has {len(config.shapes)} lists, but there are {levels} maps"
            )
        return [list(level) for level in config.shapes]
    if levels == 1:
        scales = [config.min_scale, config.max_scale]
    else:
        step = (config.max_scale - config.min_scale) / (levels - 1)
        scales = [config.min_scale + step * level for level in range(levels)] + [1.0]
    of_layout = _SHAPES[config.layout]
    shapes = [
        of_layout(scale, math.sqrt(scale * after), config.aspect_ratios)
        for scale, after in itertools.pairwise(scales)
    ]
    if config.reduce_lowest:
        shapes[0] = [
            _shape(_REDUCED_SCALE, 1.0),
            _shape(scales[0], 2.0),
            _shape(scales[0], 0.5),
        ]
    if config.layout == "torchvision":
        shapes = [[(min(w, 1.0), min(h, 1.0)) for w, h in level] for level in shapes]
    return shapes


def _torchvision_shapes(
    scale: float, between: float, ratios: Sequence[float]
) -> list[tuple[float, float]]:
    """Both squares, then each ratio and its inverse."""
    shapes = [_shape(scale, 1.0), _shape(between, 1.0)]
    for ratio in ratios:
        width, height = _shape(scale, ratio)
        shapes += [(width, height), (height, width)]
    return shapes


def _tensorflow_shapes(
    scale: float, between: float, ratios: Sequence[float]
) -> list[tuple[float, float]]:
    """The square, each ratio and its inverse, then the square between two levels."""
    shapes = [_shape(scale, 1.0)]
    for ratio in ratios:
        # The released pipeline.config files write "aspect_ratios: 0.3333": four decimals, not 1/3.
        shapes += [_shape(scale, ratio), _shape(scale, round(1 / ratio, 4))]
    return [*shapes, _shape(between, 1.0)]


_SHAPES = {"torchvision": _torchvision_shapes, "tensorflow": _tensorflow_shapes}


def _stride8_shapes(config: AnchorConfig, scale: float) -> list[tuple[float, float]]:
    between = math.sqrt(scale * config.min_scale)
    return _SHAPES[config.layout](scale, between, config.aspect_ratios)


def _shape(scale: float, ratio: float) -> tuple[float, float]:
    """(width, height) of area scale**2 and the given width to height."""
    return scale * math.sqrt(ratio), scale / math.sqrt(ratio)


def _halvings(side: int, cells: int) -> int:
    halvings, size = 0, side
    while size > cells:
        halvings, size = halvings + 1, math.ceil(size / 2)
    if size != cells:
        raise ValueError(f"halving {side} pixels does not make {cells} cells")
    return halvings


def _moved_centres(side: int, trained: int, halvings: int, padding: Padding) -> Tensor:
    """[cells] pixels: as far from the pixel that a cell reads as they were where it was trained."""
    before, now = (read_centres(n, halvings, padding) for n in (trained, side))
    distances = (np.arange(len(before)) + 0.5) * trained / len(before) - before
    return torch.from_numpy(now + np.interp(now * trained / side, before, distances))


def read_centres(side: int, halvings: int, padding: Padding) -> NDArray[np.float64]:
    """Along one axis, the centre of the pixel around which each cell of a map reads the image.

    A 3x3 convolution of stride 2 reads around pixel 2 i, or around 2 i + 1 with TensorFlow's
    padding of an even side (it then pads at the end only).

    Args:
        side: of the image, pixels.
        halvings: convolutions of stride 2.
        padding: of these.

    Example:
        >>> read_centres(8, 2, "symmetric"), read_centres(8, 2, "same")
        (array([0.5, 4.5]), array([3.5, 7.5]))
    """
    first, stride = 0.5, 1
    for _ in range(halvings):
        first += stride if padding == "same" and side % 2 == 0 else 0
        stride, side = 2 * stride, math.ceil(side / 2)
    return first + stride * np.arange(side, dtype=np.float64)


def _tile(shapes: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Repeats the [S, 2] shapes of a cell over the centres: [height * width * S, 4] xyxy."""
    centres = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)  # [height, width, 2] x, y
    centres = centres[:, :, None]  # [height, width, 1, 2]
    return torch.cat([centres - shapes / 2, centres + shapes / 2], dim=-1).reshape(-1, 4)
