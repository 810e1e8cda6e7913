"""Training a segmenter on a data set: the choices of `SegmentationPlan` as a training's call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from igcv3det.engine.arguments import given_values
from igcv3det.tasks.detect.train_data import TrainingCall, call_arguments, merged, run_folder
from igcv3det.tasks.segment.plan import SegmentationPlan
from igcv3det.tasks.segment.train import SegmentationCLI

CONFIG = "segment/finetune"
"""Name of the configuration that the choices complete."""


def training_call(
    data: str | Path,
    words: Sequence[str] = (),
    *,
    weights: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    output: str | Path | None = None,
) -> TrainingCall:
    """Chooses what the user leaves open.

    Args:
        data: folder of a data set of images and masks.
        words: the user's own options, as on the command line; they have precedence.
        weights: a name of pretrained weights or a file, of which the backbone is taken.
        epochs: length of the training.
        minutes: length of the training, by the clock.
        output: run folder; None takes ``runs/`` and the name of the data set.

    Raises:
        FileNotFoundError, ValueError: the data set or the weights cannot be used.
    """
    given = given_values(words, SegmentationCLI.renamed)
    plan = SegmentationPlan(Path(data), given, weights, epochs, minutes)
    options, lines = merged(plan.choices(), given)
    folder = run_folder(data, output, given)
    return TrainingCall(call_arguments(CONFIG, options, given, words, folder), lines)
