"""What the commands that train share."""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING

from igcv3det.cli.command import DONE, FAILED, report, run_command
from igcv3det.cli.training_call import check_call

if TYPE_CHECKING:
    from igcv3det.engine.interrupts import RunInterruptedError
    from igcv3det.engine.run_cli import RunCLI


def prepare_process() -> None:
    """Sets up threads and memory; call before torch is imported."""
    # OpenMP threads that wait spin only briefly, so that the data loaders' processes get the cores
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from igcv3det.engine.malloc import tune_malloc

    tune_malloc()


def run_training(
    name: str, source: tuple[str, str], doc: str, args: list[str] | None = None
) -> int:
    """Runs a training command.

    Args:
        name: of the command.
        source: module and name of its command line class, a `RunCLI`.
        doc: what ``--help`` shows above the options.
        args: arguments of the command; None takes those of the process.

    Returns:
        Exit status: 0 trained, 1 could not be done, 2 wrong call, 130 or 143 ended by Ctrl-C or
        SIGTERM.
    """

    def parse(words: list[str]) -> list[str]:
        return check_call(name, source, doc, words)

    def run(words: list[str]) -> int:
        prepare_process()
        program = getattr(importlib.import_module(source[0]), source[1])
        return train_program(name, program, words)

    try:
        return run_command(name, parse, run, args)
    except SystemExit as stop:  # after --help or a wrong call
        return stop.code if isinstance(stop.code, int) else FAILED


def train_program(name: str, program: type[RunCLI], args: list[str]) -> int:
    """Trains, and prints where the result is.

    Args:
        name: of the command.
        program: its command line class.
        args: complete arguments, without names of configurations.

    Returns:
        Exit status: 0 trained, 130 or 143 interrupted.

    Raises:
        ValueError: Lightning refuses the trainer's options, or the loss is not finite.
    """
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from igcv3det.engine.callbacks import NonFiniteLossError
    from igcv3det.engine.interrupts import RunInterruptedError

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        result = program(args).fit()
    except RunInterruptedError as stop:
        _report_interrupt(name, stop)
        return stop.exit_status
    except (MisconfigurationException, NonFiniteLossError) as error:
        raise ValueError(str(error)) from error
    if result is not None:
        print(result)
    return DONE


def _report_interrupt(name: str, stop: RunInterruptedError) -> None:
    if stop.resume_with is None:
        report(name, f"{stop}, before anything was saved")
        return
    saved = "" if stop.step is None else f" after step {stop.step}, which is saved"
    report(name, f"{stop}{saved}; resume with:\n  {stop.resume_with}")
