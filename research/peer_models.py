"""Other projects' detectors as ONNX files: preprocessing and decoding of their outputs.

Written from the formats that the projects document: NanoDet's v0.x configurations and GFL head,
YOLOX's ONNX demo, FastestDet's README and postprocessing. NMS thresholds are the projects' own. For
a fair comparison all classes of a cell with scores above 0.01 count, and 100 detections are kept,
as in COCO's evaluation. (YOLOX and FastestDet evaluate with the best class of a cell only, which
gives about 0.006 less AP.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms, clip_boxes_to_image

from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.evaluation.dataset_inference import DETECTIONS_PER_IMAGE, SCORE_THRESHOLD
from igcv3det.io.images import Image
from igcv3det.structures import Detections

Array = NDArray[np.float32]

NANODET_MEAN = np.array([103.53, 116.28, 123.675], np.float32)  # BGR
NANODET_STD = np.array([57.375, 57.12, 58.395], np.float32)
GREY = 114  # YOLOX's padding
STRIDES = (8, 16, 32)


class Placed(NamedTuple):
    """A network input, and the position of the image in it.

    Attributes:
        inputs: [1, 3, S, S].
        scale: (x, y), pixels of the input per pixel of the image.
        shift: (x, y) of the image's upper left corner, pixels of the input.
    """

    inputs: Array
    scale: tuple[float, float]
    shift: tuple[float, float]


class Candidates(NamedTuple):
    """Decoded outputs before NMS: boxes xyxy [N, 4] in pixels of the input, scores [N, 80]."""

    boxes: Array
    scores: Array


@dataclass(frozen=True)
class Peer:
    """A detector of another project.

    Attributes:
        name: name in the table.
        file: name of the ONNX file.
        iou_threshold: IoU threshold of the project's class-wise NMS.
        place: preprocessing: image and S to input.
        decode: raw outputs and S to candidates.
    """

    name: str
    file: str
    iou_threshold: float
    place: Callable[[Image, int], Placed]
    decode: Callable[[Sequence[Array], int], Candidates]

    def detect(self, image: Image, size: int, run: Callable[[Array], list[Array]]) -> Detections:
        """Detections of an image; ``run`` computes the network."""
        placed = self.place(image, size)
        boxes, scores = self.decode(run(placed.inputs), size)
        return suppress(restored(boxes, placed), scores, image.shape[:2], self.iou_threshold)


def restored(boxes: Array, placed: Placed) -> Array:
    """Boxes in pixels of the image instead of the input."""
    shift, scale = (np.array([*xy, *xy], np.float32) for xy in (placed.shift, placed.scale))
    return (boxes - shift) / scale


def suppress(boxes: Array, scores: Array, size: Sequence[int], iou_threshold: float) -> Detections:
    """Class-wise NMS of all scores above 0.01; at most 100 detections."""
    rows, classes = torch.from_numpy(scores > SCORE_THRESHOLD).nonzero(as_tuple=True)
    likely = torch.from_numpy(scores)[rows, classes]
    inside = clip_boxes_to_image(torch.from_numpy(boxes)[rows], (size[0], size[1]))
    kept = batched_nms(inside, likely, classes, iou_threshold)[:DETECTIONS_PER_IMAGE]
    return Detections(inside[kept], likely[kept], classes[kept] + 1, COCO_CATEGORIES)


def centred(image: Image, size: int) -> Placed:
    """NanoDet: centred letterbox with black borders, BGR, ImageNet's mean and deviation."""
    height, width = image.shape[:2]
    scale = min(size / width, size / height)
    shift = ((size - scale * width) / 2, (size - scale * height) / 2)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    warped = cv2.warpAffine(image[..., ::-1], matrix, (size, size)).astype(np.float32)
    normalised = (warped - NANODET_MEAN) / NANODET_STD
    return Placed(_planes(normalised), (scale, scale), shift)


def top_left(image: Image, size: int) -> Placed:
    """YOLOX: letterbox in the upper left corner with grey borders, BGR in 0..255."""
    height, width = image.shape[:2]
    scale = min(size / width, size / height)
    resized = cv2.resize(image[..., ::-1], (int(width * scale), int(height * scale)))
    padded = np.full((size, size, 3), GREY, np.float32)
    padded[: resized.shape[0], : resized.shape[1]] = resized
    return Placed(_planes(padded), (scale, scale), (0.0, 0.0))


def stretched(image: Image, size: int) -> Placed:
    """FastestDet: resized to the square, BGR in 0..1."""
    height, width = image.shape[:2]
    resized = cv2.resize(image[..., ::-1], (size, size)).astype(np.float32)
    return Placed(_planes(resized / 255), (size / width, size / height), (0.0, 0.0))


def decode_nanodet(outputs: Sequence[Array], size: int) -> Candidates:
    """Scores after sigmoid, and four distributions over 0..7 strides from the centre of each cell.

    Outputs are in any order: class scores have 80 columns, distributions 32, and the number of rows
    identifies the level.
    """
    bins = np.arange(8, dtype=np.float32)
    boxes, scores = [], []
    for stride in STRIDES:
        cells = (size // stride) ** 2
        level = {o.shape[-1]: o.reshape(cells, -1) for o in outputs if o.shape[-2] == cells}
        centres = (_grid(size // stride) + 0.5) * stride
        logits = level[32].reshape(cells, 4, 8)
        shares = np.exp(logits - logits.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        left_top, right_bottom = np.split(shares @ bins * stride, 2, axis=1)
        boxes.append(np.hstack([centres - left_top, centres + right_bottom]))
        scores.append(level[80])
    return Candidates(np.vstack(boxes), np.vstack(scores))


def decode_yolox(outputs: Sequence[Array], size: int) -> Candidates:
    """Centre and logarithmic size in strides, objectness, 80 classes."""
    rows = outputs[0][0]
    grids = [_grid(size // stride) for stride in STRIDES]
    steps = np.repeat(np.array(STRIDES, np.float32), [len(g) for g in grids])[:, None]
    centres = (rows[:, :2] + np.vstack(grids)) * steps
    halves = np.exp(rows[:, 2:4]) * steps / 2
    scores = rows[:, 4:5] * rows[:, 5:]
    return Candidates(np.hstack([centres - halves, centres + halves]), scores)


def decode_fastestdet(outputs: Sequence[Array], size: int) -> Candidates:
    """Objectness, tanh centre in cells, sigmoid size of the image, 80 classes."""
    maps = outputs[0][0]  # [85, H, W]
    side = maps.shape[1]
    rows = maps.reshape(85, -1).T
    centres = (np.tanh(rows[:, 1:3]) + _grid(side)) / side
    halves = 1 / (1 + np.exp(-rows[:, 3:5])) / 2
    boxes = np.hstack([centres - halves, centres + halves]) * size
    return Candidates(boxes, rows[:, :1] * rows[:, 5:])


def _grid(side: int) -> Array:
    """[side * side, 2] (x, y) of the cells, row by row."""
    y, x = np.divmod(np.arange(side * side, dtype=np.float32), np.float32(side))
    return np.stack([x, y], axis=1)


def _planes(image: NDArray[Any]) -> Array:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], dtype=np.float32)


PEERS = (
    Peer("NanoDet-m 320", "nanodet.onnx", 0.6, centred, decode_nanodet),
    Peer("NanoDet-m 416", "nanodet_m.onnx", 0.6, centred, decode_nanodet),
    Peer("FastestDet 352", "FastestDet.onnx", 0.45, stretched, decode_fastestdet),
    Peer("YOLOX-Nano 416", "yolox_nano.onnx", 0.65, top_left, decode_yolox),
)
