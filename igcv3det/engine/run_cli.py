"""A training from its command line to its results.

A subclass names module, data and the configuration classes whose ranges are checked, and adds its
own options, links and callbacks.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

from jsonargparse import Namespace
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from igcv3det.config import config_from_dict
from igcv3det.engine.batch_norm import check_sync_batch_norm
from igcv3det.engine.callbacks import PatientStopping, ProgressLine, RepeatableSteps, StopAtStep
from igcv3det.engine.checkpoints import (
    LAST,
    AtomicCheckpointIO,
    BestCheckpoint,
    LastCheckpoint,
    finish,
)
from igcv3det.engine.interrupts import RunInterruptedError, StopOnSignal
from igcv3det.engine.precision import fitting_precision
from igcv3det.engine.resume import ContinuedSchedule
from igcv3det.engine.run_folder import (
    CHECKPOINTS,
    CONFIG,
    MetricsFile,
    choose_run_folder,
    drop_if_empty,
)
from igcv3det.engine.run_options import RunOptions
from igcv3det.engine.validations import PendingValidation
from igcv3det.weight_files import read_torch

logger = logging.getLogger(__name__)


class RunCLI(RunOptions):
    """Parses the command line and sets up network, data and trainer; `fit` trains.

    Args:
        args: as of the command line; None takes ``sys.argv``.

    Attributes:
        run_folder: where the results go.
        configs: keys to the configuration classes that check the values under them.
        best: the metric that chooses ``best.ckpt``, and "max" or "min".
    """

    run_folder: Path
    configs: ClassVar[Mapping[str, type]]
    best: tuple[str, str]

    def __init__(self, args: list[str] | None = None) -> None:
        with self._no_empty_folder():
            super().__init__(args)

    def before_instantiate_classes(self) -> None:
        """Checks the values' ranges, which count as part of the call; settles precision and folder.

        Raises:
            FileNotFoundError: there is no such checkpoint to resume from.
            OSError: the run folder cannot be made.
            SystemExit: status 2, a value out of range.
        """
        self._check_ranges()
        ckpt_path = self.config.ckpt_path
        if ckpt_path is not None and not Path(ckpt_path).is_file():
            raise FileNotFoundError(f"--ckpt_path {ckpt_path}: no such file")
        wanted = Path(self.config.trainer.default_root_dir or self._default_folder())
        self.run_folder = choose_run_folder(wanted, Path(ckpt_path) if ckpt_path else None)
        if self.run_folder.name != wanted.name and ckpt_path is None:
            logger.info("%s is not empty: this run goes to %s", wanted, self.run_folder)
        self.config.trainer.default_root_dir = str(self.run_folder)
        self._fit_precision()

    def instantiate_classes(self) -> None:
        """Makes data, module and trainer."""
        self.config_init = self.parser.instantiate_classes(self._config_to_instantiate())
        self.datamodule, self.model = self.config_init.data, self.config_init.model
        self.after_model()
        self.trainer = self.instantiate_trainer()
        if self.config.trainer.sync_batchnorm:
            check_sync_batch_norm(self.trainer)

    def _config_to_instantiate(self) -> Namespace:
        """All but the weights to start from, where a run is resumed: its checkpoint has its own."""
        config: Namespace = self.config
        if config.ckpt_path is not None:
            config = config.clone()
            for key in ("weights", "backbone_weights"):
                if key in config.model:
                    config.model[key] = None
        return config

    def after_model(self) -> None:
        """Completes the configuration by what only the made module knows."""

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401
        """Makes the trainer, with this package's callbacks, loggers and checkpoint writer.

        Raises:
            ValueError: the run has no end.
        """
        given = self.config_init.trainer
        if given.max_steps < 0 and given.max_epochs is None:
            raise ValueError("how long? pass --trainer.max_epochs or --trainer.max_steps")
        self.model.max_steps = given.max_steps if given.max_steps >= 0 else None
        if given.max_epochs is None:
            given.max_epochs = -1
        given.max_steps = -1  # `StopAtStep` ends the run
        given.callbacks = _as_list(given.callbacks) + self._callbacks(given)
        trainer: Trainer = super().instantiate_trainer(
            default_root_dir=str(self.run_folder),
            logger=self._loggers(given.logger),
            plugins=[*_as_list(given.plugins), AtomicCheckpointIO()],
            **kwargs,
        )
        return trainer

    def fit(self) -> Path | None:
        """Trains, or resumes.

        Returns:
            The network to infer with, or the run folder where no checkpoint was wanted; None in all
            processes but the first.

        Raises:
            RunInterruptedError: ended by Ctrl-C or SIGTERM; the message has the command that
                resumes.
        """
        ckpt_path = self.config.ckpt_path
        if ckpt_path is not None:
            self._resume_tables(Path(ckpt_path))
        with self._no_empty_folder(), self._interruptible():
            self.trainer.fit(
                self.model, datamodule=self.datamodule, ckpt_path=ckpt_path, weights_only=True
            )
        if not self.trainer.is_global_zero:
            return None
        stop = self._callback(PatientStopping)
        if stop is not None and stop.has_ended:
            logger.info(
                "ended early: %d validations without a better %s", stop.wait_count, stop.monitor
            )
        best = self._callback(BestCheckpoint)
        return finish(self.run_folder / CHECKPOINTS, self._release, best) or self.run_folder

    def _release(self, checkpoint: Path, target: Path) -> None:
        """Writes the self-describing file that people infer with."""
        raise NotImplementedError

    def _check_ranges(self) -> None:
        for key, kind in self.configs.items():
            try:
                config_from_dict(kind, plain_values(self.config[key]), key)
            except ValueError as error:
                self.parser.error(str(error), error)

    def _fit_precision(self) -> None:
        trainer = self.config.trainer
        precision = fitting_precision(trainer.precision, trainer.accelerator)
        if precision != trainer.precision:
            logger.warning(
                "trainer.precision %s: this processor has no bfloat16, so %s is used",
                trainer.precision,
                precision,
            )
            trainer.precision = precision

    def _default_folder(self) -> Path:
        files = self.config.config or []
        return Path("runs") / (Path(str(files[0])).stem if files else "igcv3det")

    def _own_callbacks(self, given: Any) -> list[Callback]:  # noqa: ANN401
        """Callbacks of this task; they run before those that write checkpoints."""
        raise NotImplementedError

    def _callbacks(self, given: Any) -> list[Callback]:  # noqa: ANN401
        callbacks: list[Callback] = [
            RepeatableSteps(self.config.seed_everything),
            ContinuedSchedule(),
            *self._own_callbacks(given),
        ]
        if self.model.max_steps is not None:
            callbacks.append(StopAtStep(self.model.max_steps))
        if given.fast_dev_run:
            return callbacks
        if self.config.early_stopping and given.limit_val_batches != 0:
            callbacks.append(PatientStopping(*self.best, self.config.early_stopping))
        if given.enable_checkpointing is not False:
            folder = self.run_folder / CHECKPOINTS
            last = LastCheckpoint(folder, self.config.save_every_n_steps)
            callbacks += [BestCheckpoint(folder, *self.best), last, StopOnSignal(last)]
            callbacks.append(PendingValidation())
        shows_progress = any(isinstance(own, ProgressBar) for own in _as_list(given.callbacks))
        if given.enable_progress_bar is not False and not shows_progress:
            callbacks.append(ProgressLine())
        return callbacks

    def _callback(self, kind: type[Any]) -> Any:  # noqa: ANN401
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        return next((own for own in callbacks if isinstance(own, kind)), None)

    def _loggers(self, given: Any) -> list[Logger] | bool:  # noqa: ANN401
        """``metrics.csv`` beside whatever loggers are configured; false means none at all."""
        if given is False:
            return False
        loggers: list[Logger] = [MetricsFile(self.run_folder)]
        if given not in (None, True):
            loggers += _as_list(given)
        if self.config.tensorboard:
            try:
                board = TensorBoardLogger(self.run_folder, name="", version="tensorboard")
            except ModuleNotFoundError as error:
                raise ValueError(
                    "--tensorboard true: pip install 'igcv3det[tensorboard]' first"
                ) from error
            loggers.append(board)
        return loggers

    def _resume_tables(self, ckpt_path: Path) -> None:
        checkpoint = read_torch(ckpt_path, mmap=True)
        if "global_step" not in checkpoint:
            raise ValueError(
                f"--ckpt_path {ckpt_path}: holds weights, not the state of a run as last.ckpt; "
                "a new run starts from it with --model.weights"
            )
        for table in self.trainer.loggers:
            if isinstance(table, MetricsFile):
                table.resume(checkpoint["global_step"])

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        stop = self._callback(StopOnSignal)
        try:
            with stop.handling() if stop is not None else nullcontext():
                yield
        except RunInterruptedError as error:
            last = self.run_folder / CHECKPOINTS / LAST
            error.resume_with = self._resume_command(last) if last.exists() else None
            raise

    def _resume_command(self, last: Path) -> str:
        script = Path(sys.argv[0])
        command, *task = self.program[0].split()
        start = ["python", str(script)] if script.suffix == ".py" else ["igcv3det", command]
        if script.parts[-2:] == ("igcv3det", "__main__.py"):
            start = ["python", "-m", "igcv3det", command]
        config = self.run_folder / CONFIG
        return shlex.join([*start, *task, "--config", str(config), "--ckpt_path", str(last)])

    @contextmanager
    def _no_empty_folder(self) -> Iterator[None]:
        """Removes the run folder if nothing was written to it."""
        try:
            yield
        except BaseException:
            if hasattr(self, "run_folder"):
                drop_if_empty(self.run_folder)
            raise


def plain_values(value: Any) -> Any:  # noqa: ANN401
    """Parsed values as dictionaries; `Namespace.as_dict` leaves those in lists as they are."""
    if isinstance(value, Namespace):
        return {key: plain_values(inner) for key, inner in vars(value).items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain_values(inner) for inner in value)
    return value


def _as_list(value: Any) -> list[Any]:  # noqa: ANN401
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
