"""Callbacks of detection training: image ids for messages, drawn predictions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule
from torch import Tensor

from igcv3det.detector import SSDLite
from igcv3det.engine.validation_images import ValidationImages, to_image
from igcv3det.io.drawing import draw_side_by_side
from igcv3det.io.images import Image
from igcv3det.structures import Categories, Detections, Target


def target_image_ids(batch: Any) -> list[int]:  # noqa: ANN401
    """Image ids of a batch of images and targets."""
    return [target.image_id for target in batch[1]]


class PredictionImages(ValidationImages):
    """Draws ground truth on the left and predictions on the right.

    Args:
        folder: where the epochs' folders go.
        images: number of images, the first of the validation set; 0 writes none.
        threshold: predictions of at least this score are drawn.
    """

    def __init__(self, folder: Path, images: int = 8, threshold: float = 0.3) -> None:
        super().__init__(folder, images)
        self.threshold = threshold

    def draw(
        self,
        module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
    ) -> Iterator[tuple[str, Image]]:
        """Image ids and drawings."""
        detector = cast("SSDLite", module.detector)
        preprocess = detector.config.preprocess
        found_in_batch: list[Detections] = outputs["detections"]
        for image, target, found in zip(*batch, found_in_batch, strict=True):
            names = [detector.categories.names[label - 1] for label in target.labels.tolist()]
            comparison = draw_side_by_side(
                to_image(image, preprocess.mean, preprocess.std),
                target.boxes.cpu(),
                names,
                _to_input(found.above(self.threshold), target, image, detector.categories),
            )
            yield str(target.image_id), comparison


def _to_input(
    found: Detections, target: Target, image: Tensor, categories: Categories
) -> Detections:
    """Detections with boxes in pixels of the network input instead of the original image."""
    height, width = target.original_size
    rows, columns = image.shape[-2:]
    scale = torch.tensor([columns / width, rows / height] * 2)
    boxes = found.boxes.cpu() * scale
    return Detections(boxes, found.scores.cpu(), found.labels.cpu(), categories)
