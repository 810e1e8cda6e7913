"""Drawn images of each validation in the run folder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from igcv3det.io.images import Image, write_image

IMAGES = "images"
"""Folder of the drawn images in a run folder."""
Triple = tuple[float, float, float]


class ValidationImages(Callback):
    """Writes ``images/epoch-0003/NAME.png`` after each validation; a task says what is drawn.

    Args:
        folder: where the epochs' folders go.
        images: number of images, the first of the validation set; 0 writes none.
    """

    def __init__(self, folder: Path, images: int = 8) -> None:
        self.folder = folder
        self.images = images
        self._left = 0

    @abstractmethod
    def draw(
        self,
        module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
    ) -> Iterator[tuple[str, Image]]:
        """Names and drawings of a batch's images, from what the validation step returned."""

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
        folder = self.folder / f"epoch-{trainer.current_epoch:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in islice(self.draw(pl_module, outputs, batch), self._left):
            write_image(folder / f"{name}.png", image)
            self._left -= 1


def add_images_option(parser: ArgumentParser) -> None:
    """Adds ``--logged_images`` to a training's command line."""
    parser.add_argument(
        "--logged_images",
        type=int,
        default=8,
        help="Validation images to draw after each validation.",
    )


def to_image(image: Tensor, mean: Triple, std: Triple) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB of a normalised image [3, H, W]."""
    pixels = image.detach().cpu().float().permute(1, 2, 0) * torch.tensor(std) + torch.tensor(mean)
    array: NDArray[np.uint8] = pixels.round().clamp(0, 255).byte().numpy()
    return array
