"""Number of optimizer steps of a run, and of images per step."""

from __future__ import annotations

from typing import NamedTuple

from pytorch_lightning import Trainer


class RunLength(NamedTuple):
    """Steps and batch, which schedule and learning rate depend on.

    Attributes:
        steps: optimizer steps of the whole run.
        batch: images of a step, of all processes and accumulated batches together.
    """

    steps: int
    batch: int


def run_length(trainer: Trainer, max_steps: int | None) -> RunLength:
    """The length of the run that a trainer is set up for.

    Args:
        trainer: with its data attached; the training loader has a ``batch_size``.
        max_steps: where the schedule ends if that is before the trainer's own end.

    Raises:
        ValueError: a schedule needs an end, and the run has none.
    """
    total = trainer.estimated_stepping_batches
    if max_steps is not None:
        total = min(total, max_steps)
    if total == float("inf"):
        raise ValueError("the schedule needs an end: pass --trainer.max_epochs or max_steps")
    if trainer.train_dataloader is None:  # of a run without max_epochs
        trainer.fit_loop.setup_data()
    per_process = trainer.train_dataloader.batch_size  # type: ignore[union-attr]
    batch = per_process * trainer.world_size * trainer.accumulate_grad_batches
    return RunLength(int(total), batch)
