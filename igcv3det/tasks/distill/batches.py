"""Batches of distillation: uncropped images as they are read, and crops as they are trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor

from igcv3det.engine.loader import Position
from igcv3det.engine.sampler import EpochBatches, Key
from igcv3det.structures import Target

Rows = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class Batch(NamedTuple):
    """What is trained on at once.

    Attributes:
        images: [B, 3, S, S], normalised; [B, 3, 0, 0] where nobody reads them.
        targets: boxes of each crop.
        crops: numbers of fixed crops; None where every epoch has its own.
    """

    images: Tensor
    targets: list[Target]
    crops: list[int] | None


class ImageBatches:
    """Batches of uncropped square images.

    Args:
        pixels: returns the images of some rows.
        rows: rows of the images to use.
        batches: indices into ``rows`` of each batch.
        position: returns the epoch and the batch at which an iteration starts.
    """

    def __init__(
        self,
        pixels: Callable[[Rows], Tensor],
        rows: Rows,
        batches: EpochBatches,
        position: Callable[[], Position],
    ) -> None:
        self.pixels, self.rows, self.batches, self.position = pixels, rows, batches, position

    @property
    def batch_size(self) -> int:
        """Images of a batch, of one process."""
        return self.batches.batch_size

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, list[Key]]]:
        """[B, P, P, 3] uint8 and the keys (epoch, row) of the rest of the epoch."""
        self.batches.epoch, self.batches.first = self.position()
        for keys in self.batches:
            rows = self.rows[[index for _, index in keys]]
            yield (
                self.pixels(rows),
                [(epoch, int(row)) for (epoch, _), row in zip(keys, rows, strict=True)],
            )
