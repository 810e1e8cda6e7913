"""Training a segmenter on a data set: the choices of `SegmentationPlan` as a training's call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from igcv3det.config_files import find_config
from igcv3det.engine.arguments import given_values, option_words
from igcv3det.tasks.detect.train_data import TrainingCall, choice_line
from igcv3det.tasks.segment.plan import SegmentationPlan
from igcv3det.tasks.segment.train import SegmentationCLI

CONFIG = "segment/finetune"
"""Name of the configuration that the choices complete."""
_FOLDER = "trainer.default_root_dir"


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
    choices = SegmentationPlan(Path(data), given, weights, epochs, minutes).choices()
    folder = Path("runs") / (Path(data).resolve().stem or "data") if output is None else output
    run = [] if _FOLDER in given else [f"--{_FOLDER}", str(folder)]
    options = {key: value for choice in choices for key, value in choice.options.items()}
    chosen = option_words({key: value for key, value in options.items() if key not in given})
    arguments = ["--config", str(find_config(CONFIG)), *chosen, *run, *words]
    return TrainingCall(arguments, [choice_line(choice, given, choices) for choice in choices])
