"""When checkpoints are written, and that a kill in the middle leaves the old one whole."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint

from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.description import DESCRIPTION
from igcv3det.engine.ema import TRAINING_WEIGHTS

logger = logging.getLogger(__name__)

LAST, BEST, RELEASE = "last.ckpt", "best.ckpt", "best.safetensors"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, then renames.

    Lightning's own writer goes through the system's temporary folder; from another file system the
    final move is a copy, which a kill can cut in half.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401
    ) -> None:
        """Saves to a local path.

        Raises:
            TypeError: storage options, which local files do not have.
        """
        if storage_options is not None:
            raise TypeError("checkpoints go to a local folder, which takes no storage options")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``, from which a run can be resumed: every few steps and after each epoch.

    Args:
        folder: where it goes.
        every_n_steps: optimizer steps between two within an epoch.
        max_steps: where the run ends, if it may end within an epoch.
    """

    def __init__(self, folder: Path, every_n_steps: int, max_steps: int | None = None) -> None:
        self.path = folder / LAST
        self.every_n_steps = every_n_steps
        self.max_steps = max_steps
        self._saved_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What was resumed from need not be saved again."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Saves at round steps, and at the last one of a run that ends within an epoch."""
        step = trainer.global_step
        if trainer.is_last_batch or step == self._saved_step:
            return  # the end of an epoch is saved after its validation
        if step % self.every_n_steps == 0 or step == self.max_steps:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves a complete epoch; one that was cut short would resume at the next."""
        if trainer.is_last_batch:
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._saved_step = trainer.global_step
        for table in trainer.loggers:
            table.save()  # so that a resumed run finds the rows up to its checkpoint
        trainer.save_checkpoint(self.path, weights_only=False)


def best_checkpoint(folder: Path, monitor: str = "val/AP", mode: str = "max") -> ModelCheckpoint:
    """Keeps ``best.ckpt``, the validation of highest AP, or of another figure."""
    return ModelCheckpoint(
        dirpath=folder,
        filename=Path(BEST).stem,
        monitor=monitor,
        mode=mode,
        save_on_train_epoch_end=False,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )


def require_continuation(
    checkpoint: Mapping[str, Any], description: Mapping[str, Any], ema_decay: float | None
) -> None:
    """Refuses to resume from what this run would not go on with.

    Args:
        checkpoint: that is resumed from.
        description: of the network that this run trains, as its own checkpoints carry it.
        ema_decay: whether this run keeps averaged weights.

    Raises:
        ValueError: another network, or averaged weights that this run would not keep.
    """
    if checkpoint.get(DESCRIPTION) != description:
        raise ValueError(
            "the checkpoint holds another network or other classes than this run's "
            "configuration; to start from its weights pass --model.weights, not --ckpt_path"
        )
    if ema_decay is None and TRAINING_WEIGHTS in checkpoint:
        raise ValueError(
            "the checkpoint was trained with averaged weights; resume with its "
            "model.optim.ema_decay, or start from it with --model.weights"
        )


def release_detector(checkpoint: Path, target: Path) -> None:
    """Writes a detector's ``best.safetensors``."""
    save_detector(load_detector(checkpoint), target)


def finish(folder: Path, release: Callable[[Path, Path], None] = release_detector) -> Path | None:
    """Leaves ``best.ckpt`` (the last one where nothing was validated) and ``best.safetensors``.

    Args:
        folder: the run's ``checkpoints``.
        release: writes the second from the first.

    Returns:
        The file to infer with; None when the run saved nothing.
    """
    last, best, target = folder / LAST, folder / BEST, folder / RELEASE
    if not best.exists():
        if not last.exists():
            return None
        logger.warning("nothing was validated: %s is the last checkpoint", best)
        shutil.copyfile(last, best)
    release(best, target)
    return target
