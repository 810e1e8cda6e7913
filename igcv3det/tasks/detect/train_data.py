"""Fine-tuning on a data set: the choices of `Plan` as the call of a training."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from igcv3det.config_files import find_config
from igcv3det.engine.arguments import given_values
from igcv3det.tasks.detect.augmentation_file import load_augmentation
from igcv3det.tasks.detect.plan import Choice, Plan, as_arguments
from igcv3det.tasks.detect.train import DetectionCLI

logger = logging.getLogger(__name__)

CONFIG = "finetune"
"""Name of the configuration that the choices complete."""
_FOLDER = "trainer.default_root_dir"


class TrainingCall(NamedTuple):
    """A training that is ready to start.

    Attributes:
        arguments: of its command line.
        lines: what was chosen and why, for the user.
    """

    arguments: list[str]
    lines: list[str]


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
        data: folder or file of a data set, in any format.
        words: the user's own options, as on the command line; they have precedence.
        weights: a name of pretrained weights or a file.
        epochs: length of the training.
        minutes: length of the training, by the clock.
        output: run folder; None takes ``runs/`` and the name of the data set.

    Raises:
        FileNotFoundError, ValueError: the data set or the weights cannot be used.
    """
    given = given_values(words, DetectionCLI.renamed)
    if isinstance(augmentation := given.get("data.augmentation"), str):
        load_augmentation(augmentation)  # before the data set is read and steps are measured
    plan = Plan(Path(data), given, weights, epochs, minutes)
    choices = plan.choices()
    folder = Path("runs") / (Path(data).resolve().stem or "data") if output is None else output
    run = [] if _FOLDER in given else [f"--{_FOLDER}", str(folder)]
    base = ["--config", str(find_config(CONFIG))]
    arguments = [*base, *as_arguments(choices, given), *run, *words]
    return TrainingCall(arguments, [_line(choice, given, choices) for choice in choices])


def train(
    data: str | Path,
    *,
    weights: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    output: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Fine-tunes pretrained weights on a data set, as ``igcv3det train DATA`` does.

    The choices are in the log at level INFO.

    Args:
        data: folder or file of a data set, in any format.
        weights: a name of pretrained weights or a file; None takes the default for fine-tuning.
        epochs: length of the training; None chooses by the number of images.
        minutes: length of the training by the clock, in place of ``epochs``.
        output: run folder; None takes ``runs/`` and the name of the data set.
        options: other keys of the configuration to their values, ``{"data.batch_size": 8}``.

    Returns:
        The trained detector, ``checkpoints/best.safetensors`` in the run folder, for
        `Predictor.load`.

    Raises:
        FileNotFoundError, ValueError: the data set, the weights or an option cannot be used.
    """
    if epochs is not None and minutes is not None:
        raise ValueError("give epochs or minutes, not both")
    words = []
    for key, value in (options or {}).items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    call = training_call(
        data, words, weights=weights, epochs=epochs, minutes=minutes, output=output
    )
    for line in call.lines:
        logger.info("%s", line)
    try:
        result = DetectionCLI(call.arguments).fit()
    except SystemExit as stop:
        raise ValueError(f"options: {stop.__cause__ or 'cannot be used'}") from stop
    assert result is not None, "of the first process"
    return result


def _line(choice: Choice, given: Mapping[str, Any], choices: Sequence[Choice]) -> str:
    width = max(len(other.name) for other in choices)
    own = [key for key in choice.options if key in given]
    if own and choice.name != "data":
        shown = ", ".join(f"{key} {json.dumps(given[key])}" for key in own)
        return f"{choice.name:<{width}}  given: {shown}"
    return f"{choice.name:<{width}}  {choice.reason}"
