"""Optuna's study of a search, in the run folder or in a storage that several machines share.

Source: Akiba et al., Optuna, arXiv:1907.10902. A trial that is worse than the median of the others
after the same validation ends there (`optuna.pruners.MedianPruner`).
"""

from __future__ import annotations

import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from igcv3det.measure.tables import format_number, text_table
from igcv3det.tasks.detect.search_space import Parameter

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

FILE = "study.log"
"""Of the study in the run folder, Optuna's journal."""
STARTUP_TRIALS = 4
"""Trials before the first is pruned, and after the first that are drawn at random."""
HEARTBEAT_S = 60
CALL, OWNER = "call", "owner"
"""User attributes of a study: what it belongs to, and the machine that trains with the best."""


def lock_folder(folder: Path) -> FileLock:
    """Makes the folder of a study that of this process, until the lock is released or it ends.

    Raises:
        BlockingIOError: another process searches there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise BlockingIOError(
            f"{folder}: another process is searching there: wait for its end, or choose another "
            "--output"
        ) from None
    return lock


def open_study(folder: Path, name: str, storage: str | None, call: Mapping[str, Any]) -> Study:
    """The study of a call, new or begun.

    Args:
        folder: where its file is, unless there is a storage.
        name: of the study in the storage.
        storage: Optuna's URL of a storage that several machines share, such as
            ``postgresql://host/name``.
        call: what must be the same in all calls that work on it.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: the storage cannot be opened, or the study belongs to another call.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    place = storage or folder / FILE
    try:
        study = optuna.create_study(
            storage=_opened(folder / FILE, storage),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS),
        )
    except Exception as error:
        # of SQLAlchemy and of database drivers, whatever they are
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{place}: no study: {reason}") from error
    # a sampler of the same seed would repeat the draws of the trials that there are, and those of
    # another machine
    seed = None if storage else len(study.trials)
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    begun = study.user_attrs.get(CALL)
    if begun is None:
        study.set_user_attr(CALL, dict(call))
        study.set_user_attr(OWNER, platform.node())
    elif begun != call:
        changed = [key for key in call if begun.get(key) != call[key]]
        raise ValueError(
            f"{place}: study {name!r} belongs to a call with another "
            f"{', '.join(changed)}: choose another --output"
        )
    if storage is None:
        _repeat_interrupted(study)
    return study


def _opened(file: Path, storage: str | None) -> BaseStorage:
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend

    if storage is None:
        file.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(file)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        # trials of a machine that is gone count as failed
        return RDBStorage(storage, heartbeat_interval=HEARTBEAT_S)


def is_owner(study: Study) -> bool:
    """Whether this machine trains with the best values; the others end after the trials."""
    return bool(study.user_attrs[OWNER] == platform.node())


def run_trials(
    study: Study,
    parameters: Sequence[Parameter],
    count: int,
    objective: Callable[[Trial, dict[str, float]], float],
) -> None:
    """Runs trials until the study has ``count`` that ended, pruned ones among them.

    The first takes the values that training would take without a search.

    Args:
        study: as `open_study` gives it.
        parameters: what is searched.
        count: trials of all machines together.
        objective: trains with the values, by name, and returns the AP; raises
            ``optuna.TrialPruned`` to end early.
    """
    import optuna
    from optuna.study import MaxTrialsCallback

    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    if not study.trials:
        study.enqueue_trial({own.name: own.default for own in parameters})

    def run(trial: Trial) -> float:
        values = {
            own.name: trial.suggest_float(own.name, own.low, own.high, log=own.is_log)
            for own in parameters
        }
        try:
            return objective(trial, values)
        except optuna.TrialPruned:
            raise
        except BaseException:  # Ctrl-C among them: the next call repeats the trial
            study.enqueue_trial(values)
            raise

    if ended_trials(study) < count:
        study.optimize(run, callbacks=[MaxTrialsCallback(count, states=states)])


def ended_trials(study: Study) -> int:
    """Trials that were completed or pruned."""
    return sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)


def best_trial(study: Study) -> FrozenTrial:
    """The completed trial of the highest AP.

    Raises:
        ValueError: no trial was completed.
    """
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise ValueError("no trial was completed: the loss was never finite; lower model.optim.lr")
    return study.best_trial


def study_table(study: Study, parameters: Sequence[Parameter]) -> str:
    """The trials that ended, best first, as a table."""
    ended = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    ended.sort(key=lambda trial: (trial.state.name == "PRUNED", -_reached(trial)))
    rows = [
        [
            str(trial.number),
            format_number(_reached(trial)),
            *(format_number(trial.params.get(own.name), ".3g") for own in parameters),
            "pruned" if trial.state.name == "PRUNED" else "complete",
        ]
        for trial in ended
    ]
    return text_table(["trial", "AP", *(own.name for own in parameters), "state"], rows)


def _reached(trial: FrozenTrial) -> float:
    """The best AP of a trial; NaN before its first validation."""
    values = [*trial.intermediate_values.values()]
    return max(values) if values else float("nan")


def _repeat_interrupted(study: Study) -> None:
    """Marks trials that were killed as failed, and puts their values first in line again."""
    import optuna

    for trial in study.get_trials(deepcopy=False):
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)
