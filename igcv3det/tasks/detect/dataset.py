"""A COCO data set as samples for the network."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from igcv3det.datasets.store import AnnotationStore
from igcv3det.engine.sampler import Key
from igcv3det.io.images import read_image
from igcv3det.structures import Target
from igcv3det.tasks.detect.batches import Sample
from igcv3det.tasks.detect.mosaic import Mosaic
from igcv3det.tasks.detect.transforms import Example


class Transform(Protocol):
    """From an image with boxes to a network input with boxes."""

    def __call__(self, example: Example, key: Key) -> Example:
        """The network input of the sample ``key`` (epoch, index)."""


class CocoDetection(Dataset[Sample]):
    """Network inputs and targets of the images of a store.

    Args:
        store: images and boxes, see `datasets.checks.load_annotations`.
        images: the folder that file names start from.
        transform: `EvalTransform` or `TrainTransform`.
        mosaic: joins images before the transform; None joins none.
    """

    def __init__(
        self,
        store: AnnotationStore,
        images: str | Path,
        transform: Transform,
        mosaic: Mosaic | None = None,
    ) -> None:
        self.store = store
        self.images = Path(images)
        self.transform = transform
        self.mosaic = mosaic

    def __len__(self) -> int:
        """Images, with and without objects."""
        return len(self.store)

    def __getitem__(self, key: int | Key) -> Sample:
        """One sample.

        Args:
            key: index, or (epoch, index); the epoch, else 0, decides on random changes.

        Returns:
            [3, S, S] float32 and its target.

        Raises:
            ImageReadError: the file cannot be read.
            ImageSizeError: it has another size than its annotations say.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        example = self._example(index)
        if self.mosaic is not None:
            example = self.mosaic(example, (epoch, index), len(self), self._example)
        image, boxes, labels = self.transform(example, (epoch, index))
        is_object = torch.from_numpy(labels > 0)
        boxes_px = torch.from_numpy(boxes.astype(np.float32))
        target = Target(
            boxes=boxes_px[is_object],
            labels=torch.from_numpy(labels)[is_object],
            crowds=boxes_px[~is_object],
            image_id=self.store.images[index].image_id,
            original_size=self.store.size(index),
        )
        return image, target

    def _example(self, index: int) -> Example:
        """An image as its file has it, with its boxes."""
        rows, entry = self.store.rows(index), self.store.images[index]
        return Example(
            read_image(self.images / entry.file_name, entry.size, is_upright=entry.is_upright),
            self.store.boxes[rows],
            np.where(self.store.is_crowd[rows], 0, self.store.labels[rows]).astype(np.int64),
        )
