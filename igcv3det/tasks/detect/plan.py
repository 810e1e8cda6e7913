"""How to fine-tune on a data set: each choice with its reason, and the options that follow.

What the user sets himself is left alone; the other choices take it into account.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from igcv3det.checkpoint import read_trained_config
from igcv3det.config import DetectorConfig
from igcv3det.datasets.category_map import match_names
from igcv3det.datasets.checks import load_annotations
from igcv3det.datasets.store import AnnotationStore
from igcv3det.description import starting_config
from igcv3det.engine.arguments import require_counts
from igcv3det.measure import free_memory
from igcv3det.pretrained import FINE_TUNING
from igcv3det.tasks.detect.anchor_choice import STRIDE8, explained_anchors
from igcv3det.tasks.detect.object_sizes import SMALL_PX, fitting_size, narrow_share
from igcv3det.tasks.detect.search_space import steps_of
from igcv3det.tasks.detect.splits import PATH_KEYS, TRAIN, VAL, SplitPaths, TrainingSplits
from igcv3det.tasks.detect.step_time import measure_step

BATCH_SIZE, MIN_BATCH_SIZE = 16, 2
IMAGE_MIB = 300
"""Of a training step at 320 pixels in float32, an upper bound of both architectures."""
FIXED_MIB = 1500
"""Of a training process besides."""
IMAGES_SEEN, MIN_EPOCHS, MAX_EPOCHS = 12_000, 8, 100
MIN_PATIENCE = 5
NEW_LR, KNOWN_LR = 5e-4, 1e-4
INTERVAL = "trainer.check_val_every_n_epoch"
VALIDATION_COST = 0.4
"""Of an image of validation, as a share of one of training."""


class Choice(NamedTuple):
    """A choice.

    Attributes:
        name: what is chosen.
        reason: the choice and its reason, for the user.
        options: keys and values of the configuration.
    """

    name: str
    reason: str
    options: dict[str, Any]


class Plan:
    """The choices for a data set.

    Args:
        data: the data set.
        given: keys that the user sets himself, to their values.
        weights: a name or file; None takes the default.
        epochs: of training; None chooses.
        minutes: of training; None leaves it to the epochs.
        free_mib: memory that can be used; None looks.

    Raises:
        ValueError: a batch or image size that is given is none; see also `choices`.
    """

    def __init__(
        self,
        data: Path,
        given: Mapping[str, Any],
        weights: str | None = None,
        epochs: int | None = None,
        minutes: float | None = None,
        free_mib: float | None = None,
    ) -> None:
        require_counts(given, "data.batch_size", "model.detector.image_size")
        self._given, self._epochs, self._minutes = given, epochs, minutes
        self._free_mib = free_memory.free_mib() if free_mib is None else free_mib
        self.weights = str(given.get("model.weights") or weights or FINE_TUNING)
        self._trained, self._known = read_trained_config(self.weights)
        self._data = data
        train, val = (SplitPaths(*map(given.get, PATH_KEYS[split])) for split in (TRAIN, VAL))
        drops = bool(given.get("data.drop_empty_classes", True))
        self._splits = TrainingSplits(
            data, train, val, given.get("data.format"), drop_empty_classes=drops
        )

    def choices(self) -> list[Choice]:
        """All choices, in the order in which they follow from each other.

        Raises:
            AnnotationError: the data set cannot be used.
            ValueError: from the weights.
        """
        return [
            self._data_choice(),
            self._weights_choice(),
            self._size_choice(),
            self._batch_choice(),
            self._rate_choice(),
            self._anchor_choice(),
            self._length_choice(),
            self._stop_choice(),
        ]

    @cached_property
    def _store(self) -> AnnotationStore:
        """The training data."""
        record, folder = self._splits.train
        outside = bool(self._given.get("data.allow_outside"))
        return load_annotations(record, folder, allow_outside=outside).store

    @property
    def _detector(self) -> DetectorConfig:
        """The detector with the image size and the maps that are trained."""
        start = starting_config(self._trained, self._image_size)
        anchors, head = start.anchors, start.head
        scale = self._given.get(STRIDE8, anchors.stride8_scale)
        channels = self._given.get("model.detector.head.stride8_channels", head.stride8_channels)
        return dataclasses.replace(
            start,
            image_size=self._image_size,
            num_classes=len(self._store.categories),
            anchors=dataclasses.replace(anchors, stride8_scale=scale),
            head=dataclasses.replace(head, stride8_channels=channels),
        )

    @property
    def _validation(self) -> int:
        """Number of validation images."""
        return len(self._splits.val.record.images)

    def _data_choice(self) -> Choice:
        store, splits, dropped = self._store, self._splits, self._splits.left_out
        names = ", ".join(store.categories.names[:5])
        more = ", ..." if len(store.categories) > 5 else ""
        left_out = f"; left out, without a box: {', '.join(dropped[:5])}" if dropped else ""
        return Choice(
            "data",
            f"{splits.description}: {len(store)} training, {self._validation} validation images, "
            f"{len(store.categories)} classes ({names}{more}){left_out}",
            {"data.root": str(self._data), "data.drop_empty_classes": splits.drops_empty_classes},
        )

    def _weights_choice(self) -> Choice:
        text = f"{self.weights}, a detector of {len(self._known)} classes; --weights takes others"
        return Choice("weights", text, {"model.weights": self.weights})

    @cached_property
    def _narrow_share(self) -> float:
        """Share of the objects narrower than ``SMALL_PX`` in the weights' own input."""
        return narrow_share(self._store, self._trained.image_size)

    @cached_property
    def _image_size(self) -> int:
        own = self._trained.image_size
        given = self._given.get("model.detector.image_size")
        if given is not None:
            return int(given)
        return fitting_size(own, self._narrow_share)

    def _size_choice(self) -> Choice:
        own, side = self._trained.image_size, self._image_size
        share = (
            f"{100 * self._narrow_share:.0f} % of the objects are narrower than {SMALL_PX:.0f} px"
        )
        if side == own:
            text = f"{side} px, that of the weights: {share} there"
        else:
            text = f"{side} px, not the weights' {own}: {share} there"
        return Choice("image size", text, {"model.detector.image_size": side})

    @cached_property
    def _batch_size(self) -> int:
        if "data.batch_size" in self._given:
            return int(self._given["data.batch_size"])
        image_mib = IMAGE_MIB * (self._image_size / 320) ** 2
        fitting = int((0.7 * self._free_mib - FIXED_MIB) / image_mib)
        return max(MIN_BATCH_SIZE, min(BATCH_SIZE, fitting, len(self._store)))

    def _batch_choice(self) -> Choice:
        cores = os.cpu_count() or 1
        workers = 1 if cores <= 2 else min(4, cores // 2)
        text = f"{self._batch_size} images: {self._free_mib / 1024:.1f} GiB of memory are free"
        return Choice(
            "batch", text, {"data.batch_size": self._batch_size, "data.num_workers": workers}
        )

    def _rate_choice(self) -> Choice:
        classes = self._store.categories
        shared = len(match_names(classes, self._known))
        known = f"the weights know {shared} of {len(classes)} classes"
        is_known = 2 * shared >= len(classes)
        lr = KNOWN_LR if is_known else NEW_LR
        is_frozen = is_known or min(self._batch_size, len(self._store)) == 1
        if is_frozen and not is_known:
            known += "; a batch of one image has no statistics"
        whose = "the weights'" if is_frozen else "the batches'"
        text = f"{lr:g} with {whose} norm statistics: {known}"
        return Choice("lr", text, {"model.optim.lr": lr, "model.freeze_bn_stats": is_frozen})

    def _anchor_choice(self) -> Choice:
        given = [key for key in self._given if key.startswith("model.detector.anchors")]
        if given not in ([], [STRIDE8]):
            return Choice("anchors", "as given", {})
        return Choice("anchors", *explained_anchors(self._store, self._detector))

    @property
    def epoch_steps(self) -> int:
        """Optimizer steps of an epoch."""
        return max(1, len(self._store) // self._batch_size // self._batches_a_step)

    @property
    def _batches_a_step(self) -> int:
        return int(self._given.get("trainer.accumulate_grad_batches") or 1)

    @property
    def _planned_epochs(self) -> int:
        given = self._given.get("trainer.max_epochs") or self._epochs
        if given is not None:
            return int(given)
        return min(MAX_EPOCHS, max(MIN_EPOCHS, round(IMAGES_SEEN / len(self._store))))

    def _length_choice(self) -> Choice:
        if self._minutes is not None:
            steps, text = self._length
            return Choice("length", text, {"trainer.max_steps": steps, **self._validation_interval})
        if steps_of(self._given):
            ends = {} if self._epochs is None else {"trainer.max_epochs": self._epochs}
            return Choice("length", "as given", {**ends, **self._validation_interval})
        text = f"{self._planned_epochs} epochs of {len(self._store)} images"
        if self._epochs is None:
            text += "; --epochs or --minutes decides otherwise"
        options = {"trainer.max_epochs": self._planned_epochs, **self._validation_interval}
        return Choice("length", text, options)

    @property
    def _validation_interval(self) -> dict[str, Any]:
        """With few training images not every epoch is validated, but the last one is."""
        most = max(1, round(200 / len(self._store)))
        if self._minutes is not None or steps_of(self._given):
            return {INTERVAL: most}  # a run of steps is validated at its end
        epochs = self._planned_epochs
        return {INTERVAL: max(n for n in range(1, most + 1) if epochs % n == 0)}

    def _steps_of_minutes(self, minutes: float) -> tuple[int, str]:
        size = self._batch_size
        precision = str(self._given.get("trainer.precision", "bf16-mixed"))
        time = measure_step(self._store, self._splits.train.images, self._detector, size, precision)
        step = self._batches_a_step * (time.compute + time.load / (os.cpu_count() or 1))
        every = self._validation_interval[INTERVAL]
        per_epoch = self.epoch_steps
        overhead = self._validation * VALIDATION_COST * step / (size * self._batches_a_step) / every
        epoch = per_epoch * step + overhead
        steps = max(1, int(minutes * 60 / epoch * per_epoch))
        text = (
            f"{steps} steps ({steps / per_epoch:.1f} epochs) in {minutes:g} minutes: a step takes "
        )
        return steps, text + f"{step:.2f} s here, validation {overhead:.0f} s an epoch"

    @cached_property
    def _length(self) -> tuple[int, str]:
        assert self._minutes is not None
        return self._steps_of_minutes(self._minutes)

    @property
    def _epochs_in_all(self) -> int:
        """Those of the run, also where its length is in minutes or steps."""
        if self._minutes is not None:
            return self._length[0] // self.epoch_steps
        steps = steps_of(self._given)
        return steps // self.epoch_steps if steps else self._planned_epochs

    def _stop_choice(self) -> Choice:
        validations = self._epochs_in_all // self._validation_interval[INTERVAL]
        patience = max(MIN_PATIENCE, validations // 4)
        text = f"after {patience} validations without a better AP; the best is kept"
        return Choice("stops", text, {"early_stopping": patience})
