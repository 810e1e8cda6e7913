"""Validations of a run: whether one follows, and the one that a run was cut short in."""

from __future__ import annotations

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint


def validation_follows(trainer: Trainer) -> bool:
    """Whether Lightning validates after the batch that has just ended."""
    fit_loop = trainer.fit_loop
    data_fetcher = fit_loop._data_fetcher
    return data_fetcher is not None and fit_loop.epoch_loop._should_check_val_fx(data_fetcher)


class PendingValidation(Checkpoint):
    """Repeats the validation that a run was cut short in where no step is left when it resumes.

    Lightning would end at once. A checkpoint callback, because Lightning calls these after those
    that end a run.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validates if the run is about to end."""
        val_loop = trainer.fit_loop.epoch_loop.val_loop
        if trainer.should_stop and val_loop.restarted_mid_evaluation:
            trainer.validating = True
            val_loop.run()
            trainer.training = True
