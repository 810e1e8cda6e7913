"""``train DATA --tune N``: short trainings find hyper-parameters, then the training takes the best.

::

    runs/name/
      tune/study.log    Optuna's study, a journal
      tune/trial-003/   config.yaml and metrics.csv of a trial
      ...               the training with the best values, as `engine.run_folder` has it
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytorch_lightning import Callback, LightningModule, Trainer

from igcv3det.config import flatten
from igcv3det.engine.arguments import given_values, option_words
from igcv3det.engine.callbacks import NonFiniteLossError
from igcv3det.engine.checkpoints import LAST
from igcv3det.engine.run_folder import CHECKPOINTS, CONFIG, STUDY, runs_of
from igcv3det.tasks.detect.search_space import (
    Parameter,
    TrialLength,
    as_options,
    search_space,
    steps_of,
    trial_length,
)
from igcv3det.tasks.detect.study import (
    best_trial,
    ended_trials,
    is_owner,
    lock_folder,
    open_study,
    run_trials,
    study_table,
)
from igcv3det.tasks.detect.train import DetectionCLI
from igcv3det.yaml_files import read_yaml

if TYPE_CHECKING:
    from optuna import Study, Trial

logger = logging.getLogger(__name__)

OPTIONS, FINAL = "options", "final"
"""User attributes of a study: the choices of its first call, and the trial of the training."""
_QUIET = {
    "early_stopping": 0,
    "logged_images": 0,
    "tensorboard": False,
    "trainer.enable_checkpointing": False,
}
_METRIC = "val/AP"


class Choices(NamedTuple):
    """What `Plan` chose.

    Attributes:
        options: keys of the configuration to their values.
        epoch_steps: optimizer steps of an epoch.
    """

    options: dict[str, Any]
    epoch_steps: int


class Search:
    """The search of one call.

    Args:
        folder: run folder that the user wants; a numbered follower is taken where that holds
            something else.
        storage: URL of a storage that several machines share; None takes a file in the folder,
            where no other process may search until `close`.
        call: what all calls of a search have in common.
        say: takes each line for the user.

    Attributes:
        folder: of the run.
        study: Optuna's.

    Raises:
        BlockingIOError: another process searches in the folder.
        ValueError: the study belongs to another call.
    """

    def __init__(
        self, folder: Path, storage: str | None, call: Mapping[str, Any], say: Callable[[str], None]
    ) -> None:
        self._say = say
        self.folder = _search_folder(folder)
        self._is_shared = storage is not None
        # whoever opens a study takes its running trials for killed ones
        self._lock = None if self._is_shared else lock_folder(self.folder / STUDY)
        try:
            self.study: Study = open_study(self.folder / STUDY, folder.name, storage, call)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets other processes search in the folder."""
        if self._lock is not None:
            self._lock.release()

    def choices(self, choose: Callable[[], Choices]) -> Choices:
        """The choices that the search began with; the first call makes them."""
        begun = self.study.user_attrs.get(OPTIONS)
        if begun is None:
            chosen = choose()
            self.study.set_user_attr(OPTIONS, list(chosen))
            return chosen
        return Choices(*begun)

    def run(
        self, count: int, arguments: Sequence[str], given: Mapping[str, Any], epoch_steps: int
    ) -> list[str] | None:
        """Runs the trials that are missing.

        Args:
            count: trials of all calls and machines together.
            arguments: of the training, without its folder.
            given: keys that the user sets.
            epoch_steps: optimizer steps of an epoch.

        Returns:
            Arguments of the training with the best values; None on a machine that only helps.
        """
        values = given_values(arguments, DetectionCLI.renamed)
        length = trial_length(values, epoch_steps)
        steps = steps_of(values) or int(values["trainer.max_epochs"]) * epoch_steps
        parameters = search_space(values, given, steps)
        if not parameters:
            raise ValueError("--tune: every option that it searches is given: leave some out")
        for line in _explained(self.study, count, length, parameters):
            self._say(line)
        start, before = time.monotonic(), ended_trials(self.study)

        def objective(trial: Trial, chosen: dict[str, float]) -> float:
            options = {**_QUIET, **length.options, **as_options(parameters, chosen, length.steps)}
            ended = ended_trials(self.study)
            left = _left(time.monotonic() - start, ended - before, count - ended)
            shown = ", ".join(f"{name} {value:.3g}" for name, value in chosen.items())
            self._say(f"trial {trial.number} ({ended + 1} of {count}{left}): {shown}")
            return self._train(trial, [*arguments, *option_words(options)])

        run_trials(self.study, parameters, count, objective)
        best = best_trial(self.study)
        self._say(study_table(self.study, parameters))
        if self._is_shared and not is_owner(self.study):
            return None
        self._say(f"training with the values of trial {best.number}")
        options = as_options(parameters, best.params, steps)
        begun = self.study.user_attrs.get(FINAL) == best.number
        if begun and (folder := self._folder_of(options)):
            last = folder / CHECKPOINTS / LAST
            return ["--config", str(folder / CONFIG), "--ckpt_path", str(last)]
        self.study.set_user_attr(FINAL, best.number)
        root = ["--trainer.default_root_dir", str(self.folder)]
        return [*arguments, *option_words(options), *root]

    def _folder_of(self, options: Mapping[str, Any]) -> Path | None:
        """The run with these values that has a checkpoint, in the own folder or a numbered one."""
        for folder in runs_of(self.folder):
            if (folder / CHECKPOINTS / LAST).is_file() and (folder / CONFIG).is_file():
                values = flatten(read_yaml(folder / CONFIG))
                if all(values.get(key) == value for key, value in options.items()):
                    return folder
        return None

    def _train(self, trial: Trial, arguments: Sequence[str]) -> float:
        """The best AP of a short training."""
        import optuna

        folder = self.folder / STUDY / f"trial-{trial.number:03d}"
        report = ReportToStudy(trial)
        program = DetectionCLI([*arguments, "--trainer.default_root_dir", str(folder)])
        program.trainer.callbacks.append(report)  # type: ignore[attr-defined]
        try:
            program.fit()
        except NonFiniteLossError as error:
            logger.warning("trial %d: %s", trial.number, error)
            raise optuna.TrialPruned from error
        except (SystemExit, KeyboardInterrupt) as stop:  # the first is Lightning's after Ctrl-C
            self._say(f"trial {trial.number} was interrupted: the same call repeats it")
            raise KeyboardInterrupt from stop
        # NaN where the validation data has no objects
        reached = [value for value in report.values if math.isfinite(value)]
        if report.is_pruned or not reached:
            raise optuna.TrialPruned
        return max(reached)


class ReportToStudy(Callback):
    """Reports the AP of every validation, and ends a trial that the study gives up.

    Args:
        trial: Optuna's.

    Attributes:
        values: reported so far.
        is_pruned: whether the study has given the trial up.
    """

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self.values: list[float] = []
        self.is_pruned = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports."""
        if trainer.sanity_checking or _METRIC not in trainer.callback_metrics:
            return
        self._trial.report(float(trainer.callback_metrics[_METRIC]), step=len(self.values))
        self.values.append(float(trainer.callback_metrics[_METRIC]))
        if self._trial.should_prune():
            self.is_pruned = True
            trainer.should_stop = True


def _search_folder(wanted: Path) -> Path:
    """The folder with the search that was begun, else the first one that holds nothing."""
    folder, number = wanted, 2
    while folder.exists() and any(folder.iterdir()) and not (folder / STUDY).is_dir():
        folder = wanted.with_name(f"{wanted.name}-{number}")
        number += 1
    return folder


def _explained(
    study: Study, count: int, length: TrialLength, parameters: Sequence[Parameter]
) -> list[str]:
    """What is searched and how, for the user."""
    done = ended_trials(study)
    begun = f", {done} of them done" if done else ""
    lines = [
        f"search      {count} trials of {length.text}{begun}; a trial below the median of the "
        "others ends early"
    ]
    width = max(len(own.name) for own in parameters)
    lines += [
        f"  {own.name:<{width}}  {own.low:.3g} to {own.high:.3g}"
        f"{', logarithmic' if own.is_log else ''}, first {own.default:.3g}: {own.reason}"
        for own in parameters
    ]
    return lines


def _left(seconds: float, ended: int, missing: int) -> str:
    """The time that the missing trials will take, by those that ended in this call."""
    return f", about {seconds / ended * missing / 60:.0f} minutes left" if ended > 0 else ""
