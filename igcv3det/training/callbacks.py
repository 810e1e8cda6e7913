"""Around the steps: the stop on a loss that is not finite, seeds, the end, report, pictures."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from igcv3det.config import PreprocessConfig
from igcv3det.detector import SSDLite
from igcv3det.images import write_image
from igcv3det.structures import Categories, Detections, Target
from igcv3det.visualize import draw_side_by_side

logger = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """The loss of a batch is NaN or infinite."""


class FiniteLossGuard(Callback):
    """Stops the run before a batch whose loss is not finite touches the weights.

    On the CPU the check comes before the backward pass. On a GPU waiting there would stall the
    queue, so the loss is copied aside and checked one step later, and before any checkpoint is
    written: the checkpoints on disk are always from before the fault. Gradients are not checked;
    under fp16 the scaler deals with their overflow.

    Args:
        image_ids: of a batch.
    """

    def __init__(self, image_ids: Callable[[Any], list[int]] | None = None) -> None:
        self._read_image_ids = image_ids or _target_image_ids
        self._image_ids: list[int] = []
        self._pending: tuple[torch.cuda.Event, Tensor, list[str], list[int], int] | None = None

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Notes whose batch it is."""
        self._image_ids = self._read_image_ids(batch)

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """Checks this batch, or on a GPU the one before.

        Raises:
            NonFiniteLossError: names the step, each part of the loss and the batch's image ids.
        """
        losses: dict[str, Tensor] = pl_module.losses  # type: ignore[assignment]
        values = torch.stack(list(losses.values()))
        if values.device.type != "cuda":
            _check_finite(values, list(losses), self._image_ids, trainer.global_step)
            return
        self._check_pending()
        # only a copy to pinned memory leaves the host free
        copy = torch.empty(values.shape, pin_memory=True).copy_(values, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._pending = (event, copy, list(losses), self._image_ids, trainer.global_step)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lets no checkpoint be written after a fault that is not known yet."""
        self._check_pending()

    def _check_pending(self) -> None:
        if self._pending is not None:
            event, values, names, image_ids, step = self._pending
            self._pending = None
            event.synchronize()
            _check_finite(values, names, image_ids, step)


def _target_image_ids(batch: Any) -> list[int]:  # noqa: ANN401
    return [target.image_id for target in batch[1]]


def _check_finite(values: Tensor, names: list[str], image_ids: list[int], step: int) -> None:
    if all(math.isfinite(value) for value in values.tolist()):
        return
    parts = ", ".join(
        f"{name} {value:g}" for name, value in zip(names, values.tolist(), strict=True)
    )
    raise NonFiniteLossError(
        f"the loss of step {step} is not finite ({parts}); image ids of the batch: {image_ids}; "
        "the checkpoints are from before; look at these images, or lower model.optim.lr"
    )


class RepeatableSteps(Callback):
    """Seeds PyTorch anew at every training batch, from the run's seed, the batch and the process.

    What dropout draws in a step then depends on nothing that came before, so a resumed run repeats
    an unbroken one without any generator's state in the checkpoint.

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Seeds the CPU's and the GPU's default generators."""
        entropy = (self.seed, trainer.fit_loop.total_batch_idx, trainer.global_rank)
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


class StopAtStep(Callback):
    """Ends the run after ``max_steps`` optimizer steps, its last weights validated.

    The trainer's own ``max_steps`` leaves them unvalidated within an epoch, and makes Lightning 2.6
    count an epoch twice when a run is resumed from that epoch's end.

    Args:
        max_steps: optimizer steps of the whole run.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A run that was over stays over."""
        self._stop(trainer)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Asks for the stop that Lightning validates before."""
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True


class ReportLines(Callback):
    """One line in the log after each validation.

    Args:
        figures: names of the metrics that matter.
    """

    def __init__(
        self,
        figures: Sequence[str] = ("val/AP", "val/AP50", "val/AP75", "val/score", "val/loss"),
    ) -> None:
        self.figures = figures

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Epoch, step and the figures that matter."""
        if trainer.sanity_checking:
            return
        figures = trainer.callback_metrics
        shown = [key for key in self.figures if key in figures]
        text = ", ".join(f"{key} {figures[key].item():.4f}" for key in shown)
        logger.info("epoch %d, step %d: %s", trainer.current_epoch, trainer.global_step, text)


class PredictionPictures(Callback):
    """Writes ``pictures/epoch-0003/139.png``: ground truth on the left, predictions on the right.

    Args:
        folder: where the epochs' folders go.
        images: how many, the first of the validation set; 0 writes none.
        threshold: predictions of at least this score are drawn.
    """

    def __init__(self, folder: Path, images: int = 8, threshold: float = 0.3) -> None:
        self.folder = folder
        self.images = images
        self.threshold = threshold
        self._left = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts anew."""
        wanted = trainer.is_global_zero and not trainer.sanity_checking
        self._left = self.images if wanted else 0

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draws as many of this batch as are still wanted."""
        if self._left <= 0:
            return
        detector = cast("SSDLite", pl_module.detector)
        found_in_batch: list[Detections] = outputs["detections"]
        folder = self.folder / f"epoch-{trainer.current_epoch:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        for image, target, found in list(zip(*batch, found_in_batch, strict=True))[: self._left]:
            names = [detector.categories.names[label - 1] for label in target.labels.tolist()]
            picture = draw_side_by_side(
                _to_picture(image, detector.config.preprocess),
                target.boxes.cpu(),
                names,
                _to_input(found.above(self.threshold), target, image, detector.categories),
            )
            write_image(folder / f"{target.image_id}.png", picture)
            self._left -= 1


def _to_picture(image: Tensor, preprocess: PreprocessConfig) -> NDArray[np.uint8]:
    """uint8 [S, S, 3] RGB of a normalised image [3, S, S]."""
    mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
    pixels = image.detach().cpu().float().permute(1, 2, 0) * std + mean
    array: NDArray[np.uint8] = pixels.round().clamp(0, 255).byte().numpy()
    return array


def _to_input(
    found: Detections, target: Target, image: Tensor, categories: Categories
) -> Detections:
    """Detections with boxes in pixels of the network input instead of the original image."""
    height, width = target.original_size
    rows, columns = image.shape[-2:]
    scale = torch.tensor([columns / width, rows / height] * 2)
    boxes = found.boxes.cpu() * scale
    return Detections(boxes, found.scores.cpu(), found.labels.cpu(), categories)
