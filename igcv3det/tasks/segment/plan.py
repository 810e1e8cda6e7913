"""How to train a segmenter on a data set: each choice with its reason, and its options.

What the user sets himself is left alone; the other choices take it into account.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from igcv3det.config import config_from_dict, unflatten
from igcv3det.engine.arguments import require_counts
from igcv3det.pretrained import FINE_TUNING
from igcv3det.tasks.detect.plan import VALIDATION_COST, Choice
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.datamodule import MaskDataModule
from igcv3det.tasks.segment.start import starting_fields
from igcv3det.tasks.segment.step_time import measure_step

BATCH_SIZE = 8
STEP = 32
"""Sides of the input are multiples of this, pixels: the coarsest stride."""
MAX_PIXELS = 512 * 512
IMAGES_SEEN, MIN_EPOCHS, MAX_EPOCHS = 3000, 8, 200
LR = 1e-3
_INTERVAL = "trainer.check_val_every_n_epoch"
VALIDATIONS = 5
"""A run is validated at most so many times, at equal intervals."""


class SegmentationPlan:
    """The choices for a data set.

    Args:
        data: the data set.
        given: keys that the user sets himself, to their values.
        weights: a name or file; None takes the default.
        epochs: of training; None chooses.
        minutes: of training; None leaves it to the epochs.
    """

    def __init__(
        self,
        data: Path,
        given: Mapping[str, Any],
        weights: str | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
    ) -> None:
        require_counts(given, "data.batch_size")
        self._root, self._given = data, given
        self._epochs, self._minutes = epochs, minutes
        self.weights = str(given.get("model.weights") or weights or FINE_TUNING)
        self._start = starting_fields(self.weights)
        own = ("classes", "ignore", "train_split", "val_split")
        options = {name: given[f"data.{name}"] for name in own if f"data.{name}" in given}
        self._data = MaskDataModule(data, **options)

    def choices(self) -> list[Choice]:
        """All choices, in the order in which they follow from each other.

        Raises:
            FileNotFoundError, ValueError: the data set or the weights cannot be used.
        """
        return [
            self._data_choice(),
            self._weights_choice(),
            self._size_choice(),
            self._batch_choice(),
            Choice("lr", f"{LR:g} with AdamW, falling to 0", {"model.optim.lr": LR}),
            self._loss_choice(),
            self._length_choice(),
        ]

    @property
    def _images(self) -> int:
        return len(self._data.train_scan.samples)

    def _data_choice(self) -> Choice:
        data = self._data
        classes, validation = data.class_labels, len(data.val_scan.samples)
        names = ", ".join(classes.names[:5]) + (", ..." if len(classes.names) > 5 else "")
        ignored = ", ".join(map(str, (*classes.ignored, 255)))
        return Choice(
            "data",
            f"{data.source.description}: {self._images} training, {validation} {data.val_split} "
            f"images, {len(classes.labels)} classes ({names}), ignored labels: {ignored}",
            {"data.root": str(self._root)},
        )

    def _weights_choice(self) -> Choice:
        name = self._start.get("backbone.name", "as configured")
        is_segmenter = "image_size" in self._start
        taken = "a segmenter" if is_segmenter else f"of which the backbone ({name}) is taken"
        text = f"{self.weights}, {taken}; --weights takes others"
        return Choice("weights", text, {"model.weights": self.weights})

    @cached_property
    def _size(self) -> tuple[int, int]:
        """The median size of the images in multiples of ``STEP``, at most ``MAX_PIXELS``."""
        if "model.segmenter.image_size" in self._given:
            height, width = self._given["model.segmenter.image_size"]
            return int(height), int(width)
        median = np.median(self._data.train_scan.sizes, axis=0)
        scale = min(1.0, (MAX_PIXELS / float(median.prod())) ** 0.5)
        height, width = (max(STEP, int(float(side) * scale / STEP + 0.5) * STEP) for side in median)
        return height, width

    def _size_choice(self) -> Choice:
        height, width = np.median(self._data.train_scan.sizes, axis=0).astype(int)
        text = f"{self._size[1]} x {self._size[0]} px; the images have {width} x {height} (median)"
        return Choice("image size", text, {"model.segmenter.image_size": list(self._size)})

    @property
    def _config(self) -> SegmenterConfig:
        """The segmenter that is trained."""
        prefix = "model.segmenter."
        own = {k.removeprefix(prefix): v for k, v in self._given.items() if k.startswith(prefix)}
        fields = self._start | {"image_size": list(self._size)} | own
        return config_from_dict(SegmenterConfig, unflatten(fields), "model.segmenter")

    @property
    def _batch_size(self) -> int:
        return int(self._given.get("data.batch_size") or min(BATCH_SIZE, self._images))

    def _batch_choice(self) -> Choice:
        cores = os.cpu_count() or 1
        workers = 1 if cores <= 2 else min(4, cores // 2)
        options = {"data.batch_size": self._batch_size, "data.num_workers": workers}
        return Choice("batch", f"{self._batch_size} images", options)

    def _loss_choice(self) -> Choice:
        pixels = np.array(self._data.pixels, dtype=float)
        rarest = int(pixels.argmin())
        share = 100 * pixels[rarest] / max(1.0, pixels.sum())
        names = self._data.class_labels.names
        text = (
            f"weights of the classes by the root of their frequency: {names[rarest]} has "
            f"{share:.2g} % of the pixels"
        )
        return Choice("loss", text, {"model.loss.balance": 0.5})

    def _length_choice(self) -> Choice:
        if self._minutes is not None:
            return self._length_of_minutes(self._minutes)
        if "trainer.max_steps" in self._given:
            return Choice("length", "as given", {})
        given = self._given.get("trainer.max_epochs") or self._epochs
        chosen = min(MAX_EPOCHS, max(MIN_EPOCHS, round(IMAGES_SEEN / self._images)))
        epochs = int(given) if given is not None else chosen
        intervals = (n for n in range(1, epochs + 1) if epochs % n == 0)
        interval = next(n for n in intervals if epochs <= n * VALIDATIONS)
        text = f"{epochs} epochs of {self._images} images, validated every {interval}"
        if given is None:
            text += "; --epochs or --minutes decides otherwise"
        return Choice("length", text, {"trainer.max_epochs": epochs, _INTERVAL: interval})

    def _length_of_minutes(self, minutes: float) -> Choice:
        size = self._batch_size
        time = measure_step(
            self._data,
            self._config,
            size,
            str(self._given.get("trainer.precision", "bf16-mixed")),
        )
        step = time.compute + time.load / (os.cpu_count() or 1)
        per_epoch = max(1, self._images // size)
        validation = len(self._data.val_scan.samples) * VALIDATION_COST * step / size
        seconds = minutes * 60
        # the run is validated at its end, and at most so often before
        runs = min(VALIDATIONS, max(1, int(seconds / (per_epoch * step + validation))))
        steps = max(1, int((seconds - runs * validation) / step))
        epochs = steps / per_epoch
        options = {"trainer.max_steps": steps, _INTERVAL: max(1, math.ceil(epochs / VALIDATIONS))}
        return Choice(
            "length",
            f"{steps} steps ({epochs:.1f} epochs) in {minutes:g} minutes: a step takes {step:.2f} "
            f"s here, a validation {validation:.0f} s",
            options,
        )
