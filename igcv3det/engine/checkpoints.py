"""When checkpoints are written, and which one is the best."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, ModelCheckpoint
from torch import Tensor

from igcv3det.atomic_files import replacing
from igcv3det.config import flatten
from igcv3det.description import DESCRIPTION
from igcv3det.engine.ema import TRAINING_WEIGHTS
from igcv3det.engine.run_folder import log_step
from igcv3det.engine.validations import validation_follows

logger = logging.getLogger(__name__)

LAST, BEST, RELEASE = "last.ckpt", "best.ckpt", "best.safetensors"
_VAL_PROGRESS = "epoch_loop.val_loop.batch_progress"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the previous one, then replaces it.

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
            OSError: the file cannot be written; a full disk is named as such.
            TypeError: storage options, which local files do not have.
        """
        if storage_options is not None:
            raise TypeError("checkpoints go to a local folder, which takes no storage options")
        with replacing(Path(path)) as partial, partial.open("wb") as file:
            recorder = _WriteErrors(file)
            try:
                torch.save(checkpoint, cast("BinaryIO", recorder))
            except RuntimeError:
                # PyTorch reports a failed write as "unexpected pos", without the reason
                if recorder.error is None:
                    raise
                raise recorder.error from None


class _WriteErrors(RawIOBase):
    """A file that remembers why a write failed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


class LastCheckpoint(Checkpoint):
    """Keeps ``last.ckpt``, which a run is resumed from.

    It is written every few steps, before every validation, after each epoch, and after the step at
    which a run is told to stop, whoever told it.

    Args:
        folder: where it goes.
        every_n_steps: optimizer steps between two checkpoints within an epoch.

    Attributes:
        every_epoch: whether each epoch's end is saved, or only one with which training ends or
            ``every_n_steps`` after the last checkpoint.
    """

    def __init__(self, folder: Path, every_n_steps: int) -> None:
        self.path = folder / LAST
        self.every_n_steps = every_n_steps
        self.every_epoch = True
        self._saved_step = 0
        self._before_validation = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The checkpoint that a run is resumed from need not be saved again."""
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Saves at round steps and where the run stops; an epoch's last batch comes later."""
        is_due = trainer.global_step % self.every_n_steps == 0 or trainer.should_stop
        if is_due and not trainer.is_last_batch and not validation_follows(trainer):
            self.save_after_batch(trainer)

    def save_after_batch(self, trainer: Trainer) -> None:
        """Saves in ``on_train_batch_end``, unless this step is saved already.

        Not for the last batch of an epoch: Lightning would resume after that epoch's validation.
        """
        if trainer.global_step != self._saved_step:
            log_step(trainer)
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves, so that a validation that is cut short is repeated from its beginning.

        Not among the batches of a step: their gradients are not saved.
        """
        is_within_step = trainer.fit_loop._should_accumulate()
        is_new = trainer.global_step != self._saved_step and not is_within_step
        if is_new and not trainer.sanity_checking:
            self._before_validation = True
            self._save(trainer)
            self._before_validation = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves a complete epoch; one that was cut short would resume at the next."""
        ends = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        is_due = trainer.global_step - self._saved_step >= self.every_n_steps
        if trainer.is_last_batch and (self.every_epoch or ends or is_due):
            self._save(trainer)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Marks a checkpoint from before a validation, for Lightning to run it when resumed.

        Without the mark, which is the count of a validation batch that was started and not
        finished, Lightning takes the validation for done.
        """
        if self._before_validation:
            progress = checkpoint["loops"]["fit_loop"][_VAL_PROGRESS]
            total = progress["total"]
            started = total["completed"] + 1
            progress["total"] = {
                **total,
                "ready": started,
                "started": started,
                "processed": total["completed"],
            }

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._saved_step = trainer.global_step
        for table in trainer.loggers:
            table.save()  # so that a resumed run finds the rows up to its checkpoint
        trainer.save_checkpoint(self.path, weights_only=False)


class BestCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, of the validation with the best value of a metric; of equals the last.

    Args:
        folder: where it goes.
        monitor: name of the metric.
        mode: "max" or "min".
    """

    def __init__(self, folder: Path, monitor: str, mode: str) -> None:
        super().__init__(
            dirpath=folder,
            filename=Path(BEST).stem,
            monitor=monitor,
            mode=mode,
            save_on_train_epoch_end=False,
            auto_insert_metric_name=False,
            enable_version_counter=False,
        )

    @property
    def state_key(self) -> str:
        """As checkpoints of earlier versions have it."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes note of a better ``best.ckpt`` that a resumed run has in its folder.

        The checkpoint that it is resumed from may be from before that validation, or Lightning has
        dropped the score because the folder was moved.
        """
        super().on_train_start(trainer, pl_module)
        path = Path(str(self.dirpath)) / BEST
        if not trainer.global_step or not path.is_file():
            return
        saved = torch.load(path, map_location="cpu", weights_only=True)
        score = saved["callbacks"].get(self.state_key, {}).get("best_model_score")
        if score is None or saved["global_step"] > trainer.global_step:
            return  # of steps that are about to be repeated
        own = self.best_model_score
        is_better = own is None or bool(score > own if self.mode == "max" else score < own)
        if is_better or not Path(self.best_model_path).is_file():
            self.best_model_score = self.kth_value = score
            self.best_model_path = self.kth_best_model_path = str(path)
            self.best_k_models = {str(path): score}

    @property
    def is_undecided(self) -> bool:
        """Whether no validation was better than another: none gave a number, or all gave 0."""
        score = self.best_model_score
        if score is None or not bool(torch.isfinite(score)):
            return True
        return self.mode == "max" and float(score) == 0

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Whether this validation's value is at least as good as the best so far."""
        best = self.best_model_score
        ties = current is not None and best is not None and bool(current == best)
        # Lightning gives NaN as the worst value, an infinity
        return ties or super().check_monitor_top_k(trainer, current)


def require_continuation(
    checkpoint: Mapping[str, Any], description: Mapping[str, Any], ema_decay: float | None
) -> None:
    """Refuses to resume from a checkpoint of another run.

    Args:
        checkpoint: that is resumed from.
        description: of the network that this run trains, as its own checkpoints carry it.
        ema_decay: whether this run keeps averaged weights.

    Raises:
        ValueError: another network, or averaged weights that this run would not keep.
    """
    saved = checkpoint.get(DESCRIPTION)
    if saved != description:
        before = flatten(saved) if isinstance(saved, dict) else {}
        now = flatten(dict(description))
        differing = [key for key in {**now, **before} if before.get(key) != now.get(key)]
        raise ValueError(
            "the checkpoint holds another network or other classes than this run's configuration "
            f"({', '.join(differing[:3])}); to start from its weights pass --model.weights, not "
            "--ckpt_path"
        )
    if ema_decay is None and TRAINING_WEIGHTS in checkpoint:
        raise ValueError(
            "the checkpoint was trained with averaged weights; resume with its "
            "model.optim.ema_decay, or start from it with --model.weights"
        )


def finish(
    folder: Path, release: Callable[[Path, Path], None], best: BestCheckpoint | None = None
) -> Path | None:
    """Leaves ``best.ckpt`` and ``best.safetensors`` in the folder of checkpoints.

    Where no validation was better than another, the last checkpoint is the best.

    Args:
        folder: the run's ``checkpoints``.
        release: writes the second from the first.
        best: the callback that kept the first.

    Returns:
        The file to infer with; None when the run saved nothing.
    """
    last, chosen, target = folder / LAST, folder / BEST, folder / RELEASE
    if last.exists() and (not chosen.exists() or best is None or best.is_undecided):
        validated = best is not None and best.best_model_score is not None
        reason = (
            f"{best.monitor} was NaN or 0 in every validation"
            if validated and best
            else ("nothing was validated")
        )
        logger.warning("%s: %s is the last checkpoint", reason, chosen)
        with replacing(chosen) as partial:
            shutil.copyfile(last, partial)
    if not chosen.exists():
        return None
    release(chosen, target)
    return target
