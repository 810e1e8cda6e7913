"""The order of images: a function of seed, epoch and process only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Key = tuple[int, int]
"""(epoch, index); random changes depend on both, and workers know the epoch only from here."""


class EpochBatches(Sampler[list[Key]]):
    """Batches of keys for one of ``world_size`` processes, from any batch of any epoch on.

    Shuffled batches are all full: each epoch leaves out the last few images of its order, and all
    processes have the same number of batches. Unshuffled, every image comes exactly once over all
    processes; only where images are fewer than processes, those left without one take the first
    image too, as all processes must have a batch (an evaluator counts an image once).

    >>> batches = EpochBatches(5, batch_size=2)
    >>> batches.epoch, batches.first = 3, 1
    >>> list(batches)
    [[(3, 2), (3, 3)], [(3, 4)]]

    Args:
        length: images in the data set.
        batch_size: of one process.
        shuffle: another order in each epoch.
        seed: of the orders.
        rank: number of this process.
        world_size: number of processes.

    Attributes:
        epoch: the epoch of the next iteration.
        first: batches to leave out at its start, because they have been trained on.

    Raises:
        ValueError: shuffled, and the images do not make a full batch for each process.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if shuffle and length < batch_size * world_size:
            raise ValueError(
                f"{length} images do not make a batch of {batch_size} for each of {world_size} "
                "processes; lower data.batch_size"
            )
        self.length = length
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first = 0

    def __len__(self) -> int:
        """Batches of a whole epoch for this process."""
        if self.shuffle:
            return self.length // (self.batch_size * self.world_size)
        return -(-len(self._own(np.arange(self.length))) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        """The batches of ``epoch``, from number ``first``."""
        epoch, own = self.epoch, self._own(self._order())
        for batch in range(self.first, len(self)):
            start = batch * self.batch_size
            yield [(epoch, index) for index in own[start : start + self.batch_size].tolist()]

    def _own(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        own = order[self.rank :: self.world_size]
        return own if len(own) else order[:1]

    def _order(self) -> NDArray[np.int64]:
        if not self.shuffle:
            return np.arange(self.length)
        return np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
