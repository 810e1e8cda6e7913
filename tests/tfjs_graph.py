"""Evaluates a TensorFlow.js graph node by node, independently of the package's networks.

Only the operations of ssdlite_mobilenet_v2_coco, one image at a time, in TensorFlow's layouts (NHWC
images, HWIO kernels). Convolutions are gathers and matrix products with TensorFlow's padding. The
resizing loop (`tf.map_fn`, TensorArrays) is replaced by `resize_bilinear`, which it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

RESIZED = "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3"
OFFSETS, LOGITS = "Squeeze", "concat_1"
BOXES, SCORES = "Postprocessor/ExpandDims_1", "Postprocessor/Slice"


def evaluate(graph, feeds: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
    """Values of the named nodes, given those in ``feeds``."""
    values: dict[str, Any] = {**graph.weights, **feeds}
    for output in outputs:
        stack = [output]
        while stack:
            name = stack[-1]
            if name in values:
                stack.pop()
                continue
            node = graph.nodes[name]
            missing = [i.split(":")[0] for i in node.inputs if i.split(":")[0] not in values]
            if missing:
                stack.extend(missing)
                continue
            inputs = [_pick(values, i) for i in node.inputs]
            values[name] = OPS[node.op](node, *inputs)
    return [values[output] for output in outputs]


def _pick(values: dict[str, Any], reference: str):
    name, _, index = reference.partition(":")
    value = values[name]
    return value[int(index or 0)] if isinstance(value, list) else value


def resize_bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow 1's ResizeBilinear, align_corners false: pixel x samples x * scale."""
    height, width = image.shape[:2]
    image = image.astype(np.float32)

    def sources(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        where = np.arange(size, dtype=np.float32) * np.float32(length / size)
        low = np.floor(where).astype(np.int64)
        return low, np.minimum(low + 1, length - 1), (where - low).astype(np.float32)

    top, bottom, dy = sources(height)
    left, right, dx = sources(width)
    dx, dy = dx[None, :, None], dy[:, None, None]
    above = image[top][:, left] + (image[top][:, right] - image[top][:, left]) * dx
    below = image[bottom][:, left] + (image[bottom][:, right] - image[bottom][:, left]) * dx
    return above + (below - above) * dy


def _same_pad(images: np.ndarray, kernel: tuple[int, int], strides: tuple[int, int]) -> np.ndarray:
    pads = [(0, 0)]
    for length, k, s in zip(images.shape[1:3], kernel, strides, strict=True):
        total = max((-(-length // s) - 1) * s + k - length, 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(images, [*pads, (0, 0)])


def _patches(node, images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """[B, OH, OW, C, KH, KW]."""
    assert node.text("padding") == "SAME"
    assert node.text("data_format") == "NHWC"
    assert set(node.integers("dilations")) == {1}
    _, *strides, _ = node.integers("strides")
    padded = _same_pad(images, kernel.shape[:2], tuple(strides))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    return windows[:, :: strides[0], :: strides[1]]


def _conv(node, images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    if kernel.shape[:2] == (1, 1):
        assert set(node.integers("strides")) == {1}
        return images @ kernel[0, 0]
    columns = np.moveaxis(_patches(node, images, kernel), 3, 5)  # [B, OH, OW, KH, KW, C]
    return columns.reshape(*columns.shape[:3], -1) @ kernel.reshape(-1, kernel.shape[3])


def _depthwise(node, images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    assert kernel.shape[3] == 1
    return np.einsum("bhwcij,ijc->bhwc", _patches(node, images, kernel), kernel[..., 0])


def _batch_norm(node, images, scale, shift, mean, variance):
    assert not node.attributes["is_training"]["b"]
    return (images - mean) / np.sqrt(variance + np.float32(node.number("epsilon"))) * scale + shift


def _strided_slice(node, values, begin, end, step):
    assert [int(node.attributes["shrink_axis_mask"]["i"]), *begin, *step] == [1, 0, 1]
    return values[0]


def _slice(_, values, begin, size):
    ends = [n if s == -1 else b + s for b, s, n in zip(begin, size, values.shape, strict=True)]
    return values[tuple(slice(b, e) for b, e in zip(begin, ends, strict=True))]


def _pack(node, *inputs):
    return np.stack(inputs, int(node.attributes["axis"]["i"]))


def _unpack(node, values):
    return list(np.moveaxis(values, int(node.attributes["axis"]["i"]), 0))


def _add(_, *inputs):
    return sum(inputs[1:], start=inputs[0])


OPS: dict[str, Callable[..., Any]] = {
    "Add": _add,
    "AddN": _add,
    "BiasAdd": _add,
    "ConcatV2": lambda _, *inputs: np.concatenate(inputs[:-1], int(inputs[-1])),
    "Conv2D": _conv,
    "DepthwiseConv2dNative": _depthwise,
    "Exp": lambda _, x: np.exp(x),
    "ExpandDims": lambda _, x, axis: np.expand_dims(x, int(axis)),
    "FusedBatchNorm": _batch_norm,
    "Mul": lambda _, x, y: x * y,
    "Pack": _pack,
    "Relu6": lambda _, x: np.clip(x, 0, 6),
    "Reshape": lambda _, x, shape: x.reshape(shape),
    "Shape": lambda _, x: np.array(x.shape, np.int32),
    "Sigmoid": lambda _, x: 1 / (1 + np.exp(-x)),
    "Slice": _slice,
    "Squeeze": lambda node, x: np.squeeze(x, node.integers("squeeze_dims")),
    "StridedSlice": _strided_slice,
    "Sub": lambda _, x, y: x - y,
    "Tile": lambda _, x, repeats: np.tile(x, repeats),
    "Transpose": lambda _, x, axes: np.transpose(x, axes),
    "Unpack": _unpack,
}


def suppress(boxes: np.ndarray, scores: np.ndarray, iou_threshold: float) -> list[int]:
    """Greedy NMS of one class; indices, best first."""
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    order, kept = list(np.argsort(-scores, kind="stable")), []
    while order:
        best, *rest = order
        kept.append(int(best))
        corners = (
            np.maximum(boxes[rest, :2], boxes[best, :2]),
            np.minimum(boxes[rest, 2:], boxes[best, 2:]),
        )
        overlap = np.prod(np.maximum(corners[1] - corners[0], 0), axis=1)
        union = areas[rest] + areas[best] - overlap
        order = [i for i, o, u in zip(rest, overlap, union, strict=True) if o <= iou_threshold * u]
    return kept


def detect(
    boxes: np.ndarray, scores: np.ndarray, height: int, width: int
) -> list[tuple[int, float, list[float]]]:
    """(category id, score, xyxy in pixels) of one image, from the graph's boxes and scores.

    Source: the model's pipeline.config, `ssd_random_crop` aside: class-wise NMS at IoU 0.6, at most
    100 a class, 100 in all; boxes are clipped to the image.
    """
    boxes = np.clip(boxes.reshape(-1, 4), 0, 1) * np.array([height, width] * 2, np.float32)
    boxes = boxes[:, [1, 0, 3, 2]]
    found = []
    for column in range(scores.shape[-1]):
        likely = np.flatnonzero(scores[0, :, column] > 0.01)
        for i in likely[suppress(boxes[likely], scores[0, likely, column], 0.6)][:100]:
            found.append((column + 1, float(scores[0, i, column]), boxes[i].tolist()))
    return sorted(found, key=lambda detection: -detection[1])[:100]
