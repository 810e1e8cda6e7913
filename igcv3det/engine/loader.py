"""A loader that can start in the middle of an epoch."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import cv2
from torch.utils.data import DataLoader, Dataset

from igcv3det.engine.sampler import EpochBatches

logger = logging.getLogger(__name__)

Position = tuple[int, int]
"""(epoch, number of its batches that were trained on)."""


def resume_position(trainer: Any) -> Position:  # noqa: ANN401 (Lightning's; importing it is slow)
    """Epoch and batch to continue with, as Lightning counts them.

    Not by the number of all batches: earlier epochs may have had another number of them.
    """
    done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    return int(trainer.current_epoch), int(done)


def rank_and_world_size(trainer: Any) -> tuple[int, int]:  # noqa: ANN401 (likewise)
    """Rank and number of processes; 0 and 1 without a trainer."""
    return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)


def warn_of_other_batches(begun: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Warns if a resumed run will see other batches than it was started with.

    Args:
        begun: the data module's state in the checkpoint; None where nothing is resumed.
        now: its present state.
    """
    begun = begun or now
    keys = dict.fromkeys([*now, *begun])
    if changed := [key for key in keys if begun.get(key) != now.get(key)]:
        logger.warning(
            "resumed with another %s than the run was started with (%s, now %s): its batches "
            "differ from those of an uninterrupted run",
            ", ".join(changed),
            begun,
            now,
        )


def training_batches(
    trainer: Any,  # noqa: ANN401 (likewise)
    length: int,
    batch_size: int,
    seed: int,
) -> EpochBatches:
    """Shuffled full batches of ``length`` images; smaller ones, with a warning, of too few."""
    rank, world_size = rank_and_world_size(trainer)
    size = min(batch_size, max(1, length // world_size))
    if size < batch_size:
        logger.warning("batches of %d: there are only %d images", size, length)
    # overfit_batches repeats the same batches in every epoch
    shuffle = not getattr(trainer, "overfit_batches", 0)
    return EpochBatches(length, size, shuffle, seed, rank, world_size)


class BatchLoader:
    """Batches of a data set, with worker processes that live from epoch to epoch.

    It holds a torch ``DataLoader`` instead of being one: Lightning would rebuild that with samplers
    of its own. An iteration begins with the first batch that is asked for: Lightning makes
    iterators before it restores its counters, which ``position`` reads.

    Args:
        dataset: takes keys (epoch, index).
        batches: which keys make a batch.
        num_workers: processes; 0 loads in this one.
        pin_memory: copy batches to memory that a GPU reads directly.
        position: returns where an iteration begins. None continues where the last one ended, or
            where ``load_state_dict`` says.
        collate: samples of a batch to what a worker sends.
        restore: what a worker sent to what is iterated over.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: EpochBatches,
        collate: Callable[[Any], Any],
        restore: Callable[[Any], Any],
        num_workers: int = 0,
        pin_memory: bool = False,
        position: Callable[[], Position] | None = None,
    ) -> None:
        self.batches = batches
        self._position = position
        self._epoch = 0
        self._done = 0
        self._restore = restore
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            worker_init_fn=_start_worker,
            persistent_workers=num_workers > 0,
        )

    @property
    def batch_size(self) -> int:
        """Images of a batch, of one process."""
        return self.batches.batch_size

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        """The rest of the epoch."""
        if self._position is not None:
            self._epoch, self._done = self._position()
        self.batches.epoch, self.batches.first = self._epoch, self._done
        for packed in self._loader:
            self._done += 1
            yield self._restore(packed)
        self._epoch, self._done = self._epoch + 1, 0

    @property
    def _iterator(self) -> Any:  # noqa: ANN401
        """The iterator whose worker processes Lightning stops when a run ends or fails.

        Without this torch waits five seconds for each of them when the iterator is collected.
        """
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:  # noqa: ANN401
        self._loader._iterator = iterator

    def state_dict(self) -> dict[str, Any]:
        """The position after the last batch that was returned; workers may be ahead of it."""
        return {"epoch": self._epoch, "done": self._done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Makes the next iteration start at a saved position."""
        self._epoch, self._done = state["epoch"], state["done"]


def _start_worker(worker: int) -> None:
    """Sets up a worker process.

    OpenCV gets one thread: more would take turns on the same cores. Ctrl-C reaches all processes of
    a terminal, SIGTERM those of a process group; the one that trains decides what follows, and
    needs its loaders until then. A second SIGTERM ends the worker.
    """
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_once)


def _ignore_once(signum: int, frame: FrameType | None) -> None:
    signal.signal(signum, signal.SIG_DFL)
