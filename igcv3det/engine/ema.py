"""Exponential moving average of the weights: what is evaluated, saved and released.

Differs from Lightning's ``EMAWeightAveraging``: its decay is constant, so that a long average
contains the random initialisation for thousands of steps, and a delayed start validates weights
that were never trained (Lightning-AI/pytorch-lightning#21724). Here the decay ramps up from the
first step on.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

TRAINING_WEIGHTS = "training_weights"  # the raw state dict beside the averaged one in a checkpoint


class WeightAverage:
    """The average of a module's state dict.

    Floating-point entries are averaged, in float32 at least: in bfloat16 an average does not change
    once its updates are below half a unit in the last place. Running statistics of batch
    normalisation are averaged too, so that they belong to the averaged weights. Counters are
    copied.

    Args:
        module: its tensors are read in place at every update, so it must be on its device already.
        decay: limit of the decay, in (0, 1). Update ``t`` uses ``min(decay, (1 + t) / (10 + t))``.

    Attributes:
        limit: of the decay.
        updates: done so far.

    Source: the ramp is that of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.limit = decay
        self.updates = 0
        live = module.state_dict()  # detached, but the same storage as the module's own
        self._names = list(live)
        self._live = list(live.values())
        self._average = [
            value.to(_average_dtype(value.dtype), copy=True)  # keeps the memory format
            if value.is_floating_point()
            else value.clone()
            for value in self._live
        ]
        self._raw: list[Tensor] | None = None
        floats = [i for i, value in enumerate(self._live) if value.is_floating_point()]
        self._live_floats = [self._live[i] for i in floats]
        self._average_floats = [self._average[i] for i in floats]
        others = [i for i, value in enumerate(self._live) if not value.is_floating_point()]
        self._live_counters = [self._live[i] for i in others]
        self._average_counters = [self._average[i] for i in others]

    @property
    def decay(self) -> float:
        """Decay of the next update."""
        return min(self.limit, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self) -> None:
        """Moves the average towards the module's present weights."""
        live = [
            value.to(average.dtype)  # the same tensor where the types are alike
            for average, value in zip(self._average_floats, self._live_floats, strict=True)
        ]
        torch._foreach_lerp_(self._average_floats, live, 1 - self.decay)
        if self._average_counters:
            torch._foreach_copy_(self._average_counters, self._live_counters)
        self.updates += 1

    @torch.no_grad()
    def swap(self) -> None:
        """Puts the average into the module; a second call puts the module's own weights back."""
        values, self._raw = (
            (self._average, [value.clone() for value in self._live])
            if self._raw is None
            else (self._raw, None)
        )
        for value, other in zip(self._live, values, strict=True):
            value.copy_(other)

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged tensors under the module's own names."""
        return dict(zip(self._names, self._average, strict=True))

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor], updates: int) -> None:
        """Continues the average of an earlier run.

        Raises:
            ValueError: the names are not the module's.
        """
        if weights.keys() != set(self._names):
            different = sorted(weights.keys() ^ set(self._names))
            raise ValueError(f"averaged weights do not fit the network: {different[:5]}")
        for name, average in zip(self._names, self._average, strict=True):
            average.copy_(weights[name])
        self.updates = updates


def _average_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


class AveragedWeights(Callback):
    """Keeps a `WeightAverage` of a part of the module; validation runs on it.

    A checkpoint holds the average where inference looks (``state_dict``, prefix ``detector.``, say)
    and the raw weights under ``training_weights`` for resuming.

    Args:
        decay: see `WeightAverage`.
        part: name of the module's attribute that is averaged.
    """

    def __init__(self, decay: float, part: str) -> None:
        self.decay = decay
        self.part = part
        self._prefix = f"{part}."
        self.average: WeightAverage | None = None
        self._step = 0
        self._updates = 0
        self._loaded: dict[str, Tensor] | None = None
        self._swapped = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts or continues the average, now that the weights are on their device."""
        self.average = WeightAverage(cast("nn.Module", getattr(pl_module, self.part)), self.decay)
        if self._loaded is not None:
            self.average.load(self._loaded, self._updates)
            self._loaded = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Updates once for each optimizer step, however many batches it took."""
        if self.average is not None and trainer.global_step > self._step:
            self.average.update()
            self._step = trainer.global_step

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the averaged weights into the module."""
        if self.average is not None and not self._swapped:
            self.average.swap()
            self._swapped = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the raw weights back."""
        self._restore()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Puts the raw weights back after a validation that failed."""
        self._restore()

    def state_dict(self) -> dict[str, Any]:
        """Counters; the averaged weights are the checkpoint's ``state_dict``."""
        updates = self.average.updates if self.average is not None else 0
        return {"step": self._step, "updates": updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Reads the counters of the run that is resumed."""
        self._step = state_dict["step"]
        self._updates = state_dict["updates"]

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Saves the average as ``state_dict`` and the raw weights beside it."""
        if self.average is None:
            return
        checkpoint[TRAINING_WEIGHTS] = checkpoint["state_dict"]
        averaged = self.average.state_dict()
        checkpoint["state_dict"] = checkpoint["state_dict"] | {
            self._prefix + name: value for name, value in averaged.items()
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Loads the raw weights into the module, which already holds the averaged ones.

        Raises:
            ValueError: the checkpoint comes from a run without averaging.
        """
        if trainer.state.fn != "fit":
            return
        if TRAINING_WEIGHTS not in checkpoint:
            raise ValueError(
                "the checkpoint was trained without averaged weights; resume with "
                "--model.optim.ema_decay null, or start from it with --model.weights"
            )
        self._loaded = {
            name.removeprefix(self._prefix): value.clone()
            for name, value in checkpoint["state_dict"].items()
            if name.startswith(self._prefix)
        }
        pl_module.load_state_dict(checkpoint[TRAINING_WEIGHTS])

    def _restore(self) -> None:
        if self.average is not None and self._swapped:
            self.average.swap()
            self._swapped = False
