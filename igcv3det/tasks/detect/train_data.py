"""Fine-tuning on a data set: the choices of `Plan` as the call of a training."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from igcv3det.config_files import find_config
from igcv3det.engine.arguments import given_values, option_words, require_counts
from igcv3det.tasks.detect.augmentation_file import load_augmentation
from igcv3det.tasks.detect.plan import INTERVAL, Choice, Plan
from igcv3det.tasks.detect.splits import PATH_KEYS
from igcv3det.tasks.detect.train import DetectionCLI
from igcv3det.tasks.detect.tuning import Choices, Search

logger = logging.getLogger(__name__)

CONFIG = "finetune"
"""Name of the configuration that the choices complete."""
_FOLDER, _EPOCHS, _STEPS = "trainer.default_root_dir", "trainer.max_epochs", "trainer.max_steps"
_PLACES = ("data.root", *(key for keys in PATH_KEYS.values() for key in keys))


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
    given, instead = _divided(words, weights, epochs, minutes, output)
    options, lines, _ = _planned(data, given, weights, epochs, minutes)
    folder = run_folder(data, output, given)
    arguments = call_arguments(CONFIG, options, given, words, folder)
    return TrainingCall([*arguments, *_last_words(instead, options, folder)], lines)


def tuned_call(
    data: str | Path,
    words: Sequence[str] = (),
    *,
    trials: int,
    storage: str | None = None,
    weights: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    output: str | Path | None = None,
    say: Callable[[str], None] = logger.info,
) -> list[str] | None:
    """Chooses what the user leaves open, and searches hyper-parameters by short trainings.

    A search that was interrupted is resumed.

    Args:
        data: as of `training_call`, and so are the others.
        words: see there.
        trials: trainings of the search.
        storage: Optuna's URL of a storage that several machines share; None takes a file in the
            run folder.
        weights: see there.
        epochs: see there.
        minutes: see there.
        output: see there.
        say: takes each line for the user.

    Returns:
        Arguments of the training with the best values; None on a machine that only helps.

    Raises:
        ImportError: Optuna is not installed.
        FileNotFoundError, ValueError: the data set, the weights or the storage cannot be used.
        BlockingIOError: another process searches in the run folder.
    """
    given, instead = _divided(words, weights, epochs, minutes, output)
    call = {
        "data": Path(data).resolve().name,
        "weights": weights,
        "epochs": epochs,
        "minutes": minutes,
        "options": [*words],
    }
    folder = run_folder(data, output, given)

    def choose() -> Choices:
        options, lines, epoch_steps = _planned(data, given, weights, epochs, minutes)
        for line in lines:
            say(line)
        return Choices(options, epoch_steps)

    with closing(Search(folder, storage, call, say)) as search:
        options, epoch_steps = search.choices(choose)
        options["data.root"] = str(data)  # another machine may have it elsewhere
        arguments = call_arguments(CONFIG, options, given, words, folder)
        arguments += _last_words(instead, options, folder)
        return search.run(trials, arguments, given, epoch_steps)


def _divided(
    words: Sequence[str],
    weights: str | None,
    epochs: int | None,
    minutes: float | None,
    output: str | Path | None,
) -> tuple[dict[str, Any], list[str]]:
    """What the user gives in the long form, without what the short form has instead.

    A configuration file among the words counts less than DATA and the short options.

    Returns:
        The values of the words by dotted key, and the keys of the files that do not count.
    """
    given = given_values(words, DetectionCLI.renamed)
    own = {word.partition("=")[0].removeprefix("--") for word in words if word.startswith("--")}
    instead = [*_PLACES]
    if weights is not None:
        instead.append("model.weights")
    if output is not None:
        instead.append(_FOLDER)
    if epochs is not None or minutes is not None:
        instead += [_EPOCHS, _STEPS, INTERVAL, "early_stopping"]  # the last two follow from it
    keys = [key for key in instead if key in given and key not in own]
    return {key: value for key, value in given.items() if key not in keys}, keys


def _last_words(keys: Sequence[str], options: Mapping[str, Any], folder: Path) -> list[str]:
    """Options that follow a configuration file and count more."""
    ends = {_EPOCHS: None, _STEPS: -1, _FOLDER: str(folder)}
    return option_words({key: options.get(key, ends.get(key)) for key in keys})


def _planned(
    data: str | Path,
    given: Mapping[str, Any],
    weights: str | None,
    epochs: int | None,
    minutes: float | None,
) -> tuple[dict[str, Any], list[str], int]:
    """The choices as options, their lines for the user, and the steps of an epoch."""
    DetectionCLI.require_minimums(given)
    if isinstance(augmentation := given.get("data.augmentation"), str):
        # read before the data set is and steps are measured; tried on images of the data's sizes
        load_augmentation(augmentation, sizes=())
    plan = Plan(Path(data), given, weights, epochs, minutes)
    options, lines = merged(plan.choices(), given)
    return options, lines, plan.epoch_steps


def merged(choices: Sequence[Choice], given: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """All choices as the options of one training, and their lines for the user."""
    options = {key: value for choice in choices for key, value in choice.options.items()}
    return options, [choice_line(choice, given, choices) for choice in choices]


def run_folder(data: str | Path, output: str | Path | None, given: Mapping[str, Any]) -> Path:
    """The run folder that the user names, else ``runs/`` and the name of the data set."""
    default = Path("runs") / (Path(data).resolve().stem or "data")
    return Path(given.get(_FOLDER) or output or default)


def call_arguments(
    config: str,
    options: Mapping[str, Any],
    given: Mapping[str, Any],
    words: Sequence[str],
    folder: Path,
) -> list[str]:
    """The call of a training; what the user gives comes last, and counts.

    Args:
        config: name of the configuration that the choices complete.
        options: the choices.
        given: keys that the user sets himself.
        words: the user's own options, as on the command line.
        folder: run folder.
    """
    chosen = {key: value for key, value in options.items() if key not in given}
    base = ["--config", str(find_config(config)), *option_words(chosen)]
    return [*base, f"--{_FOLDER}", str(folder), *words]


def train(
    data: str | Path,
    *,
    weights: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    output: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    tune: int | None = None,
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
        tune: short trainings that search hyper-parameters before; needs Optuna.

    Returns:
        The trained detector, ``checkpoints/best.safetensors`` in the run folder, for
        `Predictor.load`.

    Raises:
        FileNotFoundError, ValueError: the data set, the weights or an option cannot be used.
    """
    _require_length(epochs, minutes, tune)
    words = []
    for key, value in (options or {}).items():
        words += [f"--{key}", value if isinstance(value, str) else json.dumps(value)]
    try:
        if tune is None:
            arguments, lines = training_call(
                data, words, weights=weights, epochs=epochs, minutes=minutes, output=output
            )
            logger.info("%s", "\n".join(lines))
        else:
            found = tuned_call(
                data,
                words,
                trials=tune,
                weights=weights,
                epochs=epochs,
                minutes=minutes,
                output=output,
            )
            assert found is not None, "only with a storage that machines share"
            arguments = found
        result = DetectionCLI(arguments).fit()
    except SystemExit as stop:
        raise ValueError(f"options: {stop.__cause__ or 'cannot be used'}") from stop
    assert result is not None, "of the first process"
    return result


def _require_length(epochs: int | None, minutes: float | None, tune: int | None) -> None:
    if epochs is not None and minutes is not None:
        raise ValueError("give epochs or minutes, not both")
    counts = {"epochs": epochs, "tune": tune}
    require_counts({key: value for key, value in counts.items() if value is not None}, *counts)
    if minutes is not None and not minutes > 0:
        raise ValueError(f"minutes must be > 0, got {minutes!r}")


def choice_line(choice: Choice, given: Mapping[str, Any], choices: Sequence[Choice]) -> str:
    """A choice and its reason as the user reads it, or what he set himself instead."""
    width = max(len(other.name) for other in choices)
    own = [key for key in choice.options if key in given]
    if own and choice.name != "data":
        shown = ", ".join(f"{key} {json.dumps(given[key])}" for key in own)
        return f"{choice.name:<{width}}  given: {shown}"
    return f"{choice.name:<{width}}  {choice.reason}"
