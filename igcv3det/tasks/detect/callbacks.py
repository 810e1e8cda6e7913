"""Callbacks of detection training: image ids for messages, drawn predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from igcv3det.config import PreprocessConfig
from igcv3det.detector import SSDLite
from igcv3det.io.drawing import draw_side_by_side
from igcv3det.io.images import write_image
from igcv3det.structures import Categories, Detections, Target

IMAGES = "images"
"""Folder of the drawn images in a run folder."""


def target_image_ids(batch: Any) -> list[int]:  # noqa: ANN401
    """Image ids of a batch of images and targets."""
    return [target.image_id for target in batch[1]]


class PredictionImages(Callback):
    """Writes ``images/epoch-0003/139.png``: ground truth on the left, predictions on the right.

    Args:
        folder: where the epochs' folders go.
        images: number of images, the first of the validation set; 0 writes none.
        threshold: predictions of at least this score are drawn.
    """

    def __init__(self, folder: Path, images: int = 8, threshold: float = 0.3) -> None:
        self.folder = folder
        self.images = images
        self.threshold = threshold
        self._left = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts to count."""
        wanted = trainer.is_global_zero and not trainer.sanity_checking
        self._left = self.images if wanted else 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws images of this batch until there are enough."""
        if self._left <= 0:
            return
        detector = cast("SSDLite", pl_module.detector)
        found_in_batch: list[Detections] = outputs["detections"]
        folder = self.folder / f"epoch-{trainer.current_epoch:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        for image, target, found in list(zip(*batch, found_in_batch, strict=True))[: self._left]:
            names = [detector.categories.names[label - 1] for label in target.labels.tolist()]
            comparison = draw_side_by_side(
                to_image(image, detector.config.preprocess),
                target.boxes.cpu(),
                names,
                _to_input(found.above(self.threshold), target, image, detector.categories),
            )
            write_image(folder / f"{target.image_id}.png", comparison)
            self._left -= 1


def to_image(image: Tensor, preprocess: PreprocessConfig) -> NDArray[np.uint8]:
    """uint8 [S, S, 3] RGB of a normalised image [3, S, S]."""
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    pixels = image.detach().cpu().float().permute(1, 2, 0) * std + mean
    array: NDArray[np.uint8] = pixels.round().clamp(0, 255).byte().numpy()
    return array


def _to_input(
    found: Detections, target: Target, image: Tensor, categories: Categories
) -> Detections:
    """Detections with boxes in pixels of the network input instead of the original image."""
    height, width = target.original_size
    rows, columns = image.shape[-2:]
    scale = torch.tensor([columns / width, rows / height] * 2)
    boxes = found.boxes.cpu() * scale
    return Detections(boxes, found.scores.cpu(), found.labels.cpu(), categories)
