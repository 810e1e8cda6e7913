"""The images with the most errors, ground truth on the left and detections on the right."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import PIL.Image
import torch

from igcv3det.datasets.image_files import ImageFolder
from igcv3det.evaluation.analysis import Analysis
from igcv3det.io.drawing import draw_side_by_side
from igcv3det.io.images import Image, ImageReadError, read_image, write_image
from igcv3det.structures import Detections

logger = logging.getLogger(__name__)

COUNT = 8
LONGER_SIDE_PX = 640
"""Larger images are drawn smaller, so that the names stay readable beside each other."""


def file_name(place: int) -> str:
    """Of the image at a place, from 1."""
    return f"worst_{place}.png"


def write_worst_images(analysis: Analysis, images: ImageFolder, folder: Path) -> dict[int, Path]:
    """Draws the first images of `Analysis.images`.

    Args:
        analysis: of an evaluation.
        images: where the file names of its annotations start from.
        folder: exists; images of an earlier call are replaced.

    Returns:
        The files by image id; an image that cannot be read has none, which is logged.
    """
    files = {}
    for place in range(1, COUNT + 1):
        (folder / file_name(place)).unlink(missing_ok=True)
    for place, worst in enumerate(analysis.images[:COUNT], start=1):
        try:
            drawn = _drawn(analysis, worst.image_id, images)
        except ImageReadError as error:  # of detections from a file: no detector has read it
            logger.warning("not drawn among the images with the most errors: %s", error)
            continue
        files[worst.image_id] = folder / file_name(place)
        write_image(files[worst.image_id], drawn)
    return files


def _drawn(analysis: Analysis, image_id: int, images: ImageFolder) -> Image:
    matches = analysis.matches
    truth = matches.truth
    image_row = int(np.flatnonzero(truth.images.ids == image_id)[0])
    entry = truth.images[image_row]
    file = images.folder / images.find(entry.file_name)
    image = read_image(file, entry.size, is_upright=entry.is_upright)
    scale = min(1.0, LONGER_SIDE_PX / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    smaller = PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BOX)
    objects = np.flatnonzero(truth.image_rows == image_row)
    names = [
        truth.categories.names[label - 1] + (" (crowd)" if is_crowd else "")
        for label, is_crowd in zip(truth.labels[objects], truth.is_crowd[objects], strict=True)
    ]
    is_here = (matches.rows.image_ids == image_id) & (matches.rows.scores >= analysis.threshold)
    found = matches.rows[is_here]
    labels = [truth.categories.ids.index(number) + 1 for number in found.category_ids.tolist()]
    detections = Detections(
        _corners(found.boxes) * scale,
        torch.tensor(found.scores, dtype=torch.float32),
        torch.tensor(labels, dtype=torch.int64),
        truth.categories,
    )
    return draw_side_by_side(
        np.array(smaller), _corners(truth.boxes[objects]) * scale, names, detections
    )


def _corners(boxes: np.ndarray) -> torch.Tensor:
    """[N, 4] xyxy of boxes (x, y, width, height)."""
    return torch.from_numpy(np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1))
