"""What every training's command line has: LightningCLI reads the dataclasses, little else of it.

A subclass names module, data and the configuration classes whose ranges are checked, and adds its
own options, links and callbacks.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from jsonargparse import set_parsing_settings
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ProgressBar, TQDMProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger, TensorBoardLogger

from igcv3det.config import config_from_dict
from igcv3det.engine.callbacks import NonFiniteLossError, RepeatableSteps, StopAtStep
from igcv3det.engine.checkpoints import (
    AtomicCheckpointIO,
    LastCheckpoint,
    best_checkpoint,
    finish,
)
from igcv3det.engine.malloc import tune_malloc
from igcv3det.engine.parser import OneLineParser
from igcv3det.engine.precision import fitting_precision
from igcv3det.engine.run_folder import CHECKPOINTS, MetricsFile, choose_run_folder

logger = logging.getLogger(__name__)

TRAINER_DEFAULTS = {
    "use_distributed_sampler": False,  # the data's own sampler shares out and resumes
    "enable_model_summary": False,  # of a detector that is one row
}
PROGRESS_REFRESH_STEPS = 10


class RunCLI(LightningCLI):
    """Parses the command line and sets up network, data and trainer; `fit` trains.

    Args:
        args: as of the command line; None takes ``sys.argv``.

    Attributes:
        run_folder: where the results go.
        module: what trains.
        data: what it trains on.
        configs: keys to the configuration classes that check the values under them.
        program: the tool's name and what it does.
        best: the metric that chooses ``best.ckpt``, and "max" or "min".
    """

    run_folder: Path
    module: type[LightningModule]
    data: type[LightningDataModule]
    configs: ClassVar[Mapping[str, type]]
    program: tuple[str, str]
    best: tuple[str, str]

    def __init__(self, args: list[str] | None = None) -> None:
        _quieten()
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        prog, description = self.program
        super().__init__(
            self.module,
            self.data,
            args=args,
            run=False,
            trainer_defaults=TRAINER_DEFAULTS,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            parser_class=OneLineParser,
            parser_kwargs={"prog": prog, "description": description},
        )

    @classmethod
    def program_main(cls, args: list[str] | None = None) -> int:
        """Trains as the arguments say, as a program does.

        Args:
            args: as of the command line; None takes ``sys.argv``.

        Returns:
            Exit status: 0 trained, 1 could not (one line on standard error), 2 wrong call.
        """
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        tune_malloc()
        try:
            result = cls(args).fit()
        except SystemExit as stop:  # of the parser: --help or a wrong call
            return stop.code if isinstance(stop.code, int) else 1
        except (ImportError, OSError, ValueError, NonFiniteLossError) as error:
            # an error in a loader's process arrives with that process's traceback before it
            reason = str(error).strip().splitlines()[-1]
            sys.stderr.write(f"{cls.program[0]}: {reason}\n")
            return 1
        if result is not None:
            sys.stdout.write(f"{result}\n")
        return 0

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401
        """As LightningCLI does, which also warns when a program with arguments passes ``args``."""
        self.config = parser.parse_args(args)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The seed is a number, so that every run can be repeated."""
        parser.add_argument(
            "--seed_everything",
            type=int,
            default=0,
            help="Seed of weights, order and augmentation.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of the run itself."""
        parser.add_argument(
            "--ckpt_path", type=str | None, default=None, help="Resume from this last.ckpt."
        )
        parser.add_argument(
            "--save_every_n_steps",
            type=int,
            default=500,
            help="Steps between two last.ckpt within an epoch.",
        )
        parser.add_argument(
            "--tensorboard", type=bool, default=False, help="Log for TensorBoard too."
        )
        self.link(parser)

    def link(self, parser: LightningArgumentParser) -> None:
        """One fact, one key."""
        raise NotImplementedError

    def before_instantiate_classes(self) -> None:
        """Checks the values' ranges, which count as part of the call; settles precision and folder.

        Raises:
            FileNotFoundError: there is no such checkpoint to resume from.
            SystemExit: status 2, a value out of range.
        """
        for key, kind in self.configs.items():
            try:
                config_from_dict(kind, self.config[key].as_dict(), key)
            except ValueError as error:
                self.parser.error(str(error), error)
        ckpt_path = self.config.ckpt_path
        if ckpt_path is not None and not Path(ckpt_path).is_file():
            raise FileNotFoundError(f"--ckpt_path {ckpt_path}: no such file")
        wanted = Path(self.config.trainer.default_root_dir or self._default_folder())
        self.run_folder = choose_run_folder(wanted, Path(ckpt_path) if ckpt_path else None)
        if self.run_folder.name != wanted.name:
            logger.info("%s holds a run already: this one goes to %s", wanted, self.run_folder)
        self._fit_precision()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401
        """The trainer with this package's callbacks, loggers and checkpoint writer added.

        Raises:
            ValueError: the run has no end.
        """
        given = self.config_init.trainer
        if given.max_steps < 0 and given.max_epochs is None:
            raise ValueError("how long? pass --trainer.max_epochs or --trainer.max_steps")
        self.model.max_steps = given.max_steps if given.max_steps >= 0 else None
        if given.max_epochs is None:
            given.max_epochs = -1
        given.max_steps = -1  # `StopAtStep` sees to it
        plugins = given.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        callbacks = given.callbacks or []
        given.callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        given.callbacks += self._callbacks(given)
        trainer: Trainer = super().instantiate_trainer(
            default_root_dir=str(self.run_folder),
            logger=self._loggers() if given.logger in (None, True) else given.logger,
            plugins=[*plugins, AtomicCheckpointIO()],
            **kwargs,
        )
        return trainer

    def fit(self) -> Path | None:
        """Trains, or resumes.

        Returns:
            The network to infer with, or the run folder where no checkpoint was wanted; None in all
            processes but the first.
        """
        ckpt_path = self.config.ckpt_path
        if ckpt_path is not None:
            self._resume_tables(Path(ckpt_path))
        self.trainer.fit(
            self.model, datamodule=self.datamodule, ckpt_path=ckpt_path, weights_only=True
        )
        if not self.trainer.is_global_zero:
            return None
        return finish(self.run_folder / CHECKPOINTS, self._release) or self.run_folder

    def _release(self, checkpoint: Path, target: Path) -> None:
        """Writes the self-describing file that people infer with."""
        raise NotImplementedError

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
        """Those of this kind of training; they come before the writers of checkpoints."""
        raise NotImplementedError

    def _callbacks(self, given: Any) -> list[Callback]:  # noqa: ANN401
        callbacks: list[Callback] = [
            RepeatableSteps(self.config.seed_everything),
            *self._own_callbacks(given),
        ]
        max_steps = self.model.max_steps
        if max_steps is not None:
            callbacks.append(StopAtStep(max_steps))
        if given.fast_dev_run:
            return callbacks
        if given.enable_checkpointing is not False:
            folder = self.run_folder / CHECKPOINTS
            every = self.config.save_every_n_steps
            callbacks.append(best_checkpoint(folder, *self.best))
            callbacks.append(LastCheckpoint(folder, every, max_steps))
        shows_progress = any(isinstance(own, ProgressBar) for own in given.callbacks)
        if given.enable_progress_bar is not False and not shows_progress:
            callbacks.append(TQDMProgressBar(refresh_rate=PROGRESS_REFRESH_STEPS))
        return callbacks

    def _loggers(self) -> list[Logger]:
        loggers: list[Logger] = [MetricsFile(self.run_folder)]
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
        step = torch.load(ckpt_path, map_location="cpu", weights_only=True, mmap=True)[
            "global_step"
        ]
        for table in self.trainer.loggers:
            if isinstance(table, MetricsFile):
                table.resume(step)


def _quieten() -> None:
    """Hides Lightning's remarks that are advertisement or do not apply here; nothing else."""
    rank_zero = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    rank_zero.addFilter(lambda record: "litlogger" not in record.getMessage())
    for message in (
        # a short epoch is logged at its validation
        r"The number of training batches .* is smaller than the logging interval",
        # a run that is resumed goes on in its folder
        r"Checkpoint directory .* exists and is not empty",
        # of Lightning 2.6 on torch 2.15
        r".*isinstance\(treespec, LeafSpec\).* is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message)
