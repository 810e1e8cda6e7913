"""Batches of views for distillation: which pictures, which views, in which order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from igcv3det.config import PreprocessConfig, ViewConfig
from igcv3det.data.loader import Position
from igcv3det.data.sampler import EpochBatches, Key
from igcv3det.distillation.picture_store import PictureStore
from igcv3det.distillation.views import draw_views
from igcv3det.structures import Target

logger = logging.getLogger(__name__)

_VIEW: Final = ViewConfig()
_PREPROCESS: Final = PreprocessConfig()
_PLAIN_VIEW = {"min_scale": 1.0, "max_scale": 1.0, "max_aspect": 1.0, "flip": 0.0, "colour": 0.0}

Batch = tuple[Tensor, list[Target]]


class DistillationDataModule(LightningDataModule):
    """Unlabelled pictures as random views.

    Which pictures make batch n, and how they are cut, depends on ``seed``, the batch size and the
    pictures alone, so a resumed run sees what an unbroken one would have seen.

    Args:
        folders: of pictures.
        side: the pictures are stretched to squares of this side, pixels.
        cache: folder for the decoded pictures.
        batch_size: views of one step.
        held_out: so many pictures, drawn with seed 0, are for validation only.
        view: size and ranges of the views.
        preprocess: comes from the model.
        seed: of order and views.
    """

    def __init__(
        self,
        folders: list[str],
        side: int = 300,
        cache: str = "runs/cache",
        batch_size: int = 32,
        held_out: int = 128,
        view: ViewConfig = _VIEW,
        preprocess: PreprocessConfig = _PREPROCESS,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size must be >= 1, got {batch_size}")
        if view.size > side:
            raise ValueError(f"data.view.size {view.size} is more than data.side {side}")
        self.folders, self.side, self.cache = folders, side, cache
        self.batch_size, self.held_out = batch_size, held_out
        self.view, self.preprocess, self.seed = view, preprocess, seed
        self.store: PictureStore | None = None

    def setup(self, stage: str) -> None:
        """Decodes what no cache holds yet."""
        if self.store is None:
            self.store = PictureStore(self.folders, self.side, self.cache)
            order = np.random.default_rng(0).permutation(len(self.store))
            if len(order) < self.held_out + self.batch_size:
                raise ValueError(
                    f"{len(order)} pictures are too few for data.held_out {self.held_out} and a "
                    f"batch of {self.batch_size}"
                )
            self.val_rows = np.sort(order[: self.held_out])
            self.train_rows = np.sort(order[self.held_out :])
            logger.info("pictures: %d, %d held out", len(self.train_rows), len(self.val_rows))

    def train_dataloader(self) -> PictureBatches:
        """Shuffled full batches, from the step that Lightning is at."""
        assert self.store is not None
        batches = EpochBatches(len(self.train_rows), self.batch_size, shuffle=True, seed=self.seed)
        return PictureBatches(self.store, self.train_rows, batches, self._trained)

    def val_dataloader(self) -> PictureBatches:
        """The held-out pictures, once."""
        assert self.store is not None
        size = min(self.batch_size, len(self.val_rows))
        batches = EpochBatches(len(self.val_rows) // size * size, size)
        return PictureBatches(self.store, self.val_rows, batches, lambda: (0, 0))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:  # noqa: ANN401
        """Cuts the views on the device that trains."""
        pixels, keys = batch
        view, entropy = self.view, (self.seed, *keys[0])
        if self.trainer is not None and not self.trainer.training:
            view = ViewConfig(size=self.view.size, **_PLAIN_VIEW)
            entropy = (0, *keys[0])
        images, _ = draw_views(pixels, view, entropy)
        mean = images.new_tensor(self.preprocess.mean).reshape(1, 3, 1, 1)
        std = images.new_tensor(self.preprocess.std).reshape(1, 3, 1, 1)
        side = (self.view.size, self.view.size)
        none = torch.zeros(0, 4)
        no_labels = torch.zeros(0, dtype=torch.int64)
        targets = [Target(none, no_labels, none, index, side) for _, index in keys]
        return (images - mean) / std, targets

    def _trained(self) -> Position:
        assert self.trainer is not None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.completed
        return divmod(batches, int(self.trainer.num_training_batches))


class PictureBatches:
    """Batches of whole squares.

    Args:
        store: the pictures.
        rows: which of them.
        batches: which of ``rows`` make a batch.
        position: asked at the start of an iteration where to begin.
    """

    def __init__(
        self,
        store: PictureStore,
        rows: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
        batches: EpochBatches,
        position: Callable[[], Position],
    ) -> None:
        self.store, self.rows, self.batches, self.position = store, rows, batches, position

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, list[Key]]]:
        """[B, P, P, 3] uint8 and the keys (epoch, row) of the rest of the epoch."""
        self.batches.epoch, self.batches.first = self.position()
        for keys in self.batches:
            rows = self.rows[[index for _, index in keys]]
            yield torch.from_numpy(self.store.pixels[rows]), [
                (epoch, int(row)) for (epoch, _), row in zip(keys, rows, strict=True)
            ]
