"""Callbacks of segmentation training: drawn predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import cv2
import numpy as np
from pytorch_lightning import LightningModule

from igcv3det.engine.validation_images import ValidationImages, to_image
from igcv3det.io.images import Image
from igcv3det.tasks.segment.batches import MaskBatch
from igcv3det.tasks.segment.drawing import colour_pixels, draw_segmentation
from igcv3det.tasks.segment.module import SegmentationModule
from igcv3det.tasks.segment.predictor import Segmentation


class MaskImages(ValidationImages):
    """Draws the true classes on the left and the predicted ones on the right, at the mask's size.

    Ignored pixels have no colour on the left.
    """

    def draw(
        self,
        module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
    ) -> Iterator[tuple[str, Image]]:
        """Positions in the split and drawings."""
        segmentation = cast(SegmentationModule, module)
        config, classes = segmentation.segmenter.config, segmentation.classes
        images, masks, positions = cast(MaskBatch, batch)
        every = zip(images, masks, positions, outputs["classes"], strict=True)
        for image, truth, position, predicted in every:
            mask = truth.cpu().numpy()
            pixels = to_image(image, config.mean, config.std)
            shown = cast("Image", cv2.resize(pixels, mask.shape[::-1]))
            found = Segmentation(predicted.byte().cpu().numpy(), classes)
            sides = (
                colour_pixels(shown, mask, config.num_classes),
                draw_segmentation(shown, found),
            )
            yield f"{position:04d}", np.concatenate(sides, axis=1)
