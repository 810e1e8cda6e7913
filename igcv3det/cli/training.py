"""What the commands that train share."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from igcv3det.cli.command import report
from igcv3det.config_files import find_config

if TYPE_CHECKING:
    from igcv3det.engine.interrupts import RunInterruptedError
    from igcv3det.engine.run_cli import RunCLI

CONFIG_OPTIONS = ("-c", "--config")


def prepare_process() -> None:
    """Sets up threads and memory; call before torch is imported."""
    # OpenMP threads that wait spin only briefly, so that the data loaders' processes get the cores
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from igcv3det.engine.malloc import tune_malloc

    tune_malloc()


def train(program: type[RunCLI], args: list[str]) -> int:
    """Trains as the arguments say.

    Returns:
        Exit status: 0 trained, 2 wrong call, 130 or 143 ended by Ctrl-C or SIGTERM.

    Raises:
        ValueError: Lightning refuses the trainer's options, or the loss is not finite.
    """
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    from igcv3det.engine.callbacks import NonFiniteLossError
    from igcv3det.engine.interrupts import RunInterruptedError

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return program.program_main(with_config_files(args))
    except RunInterruptedError as stop:
        _report_interrupt(program.program[0], stop)
        return stop.exit_status
    except (MisconfigurationException, NonFiniteLossError) as error:
        raise ValueError(str(error)) from error


def with_config_files(args: list[str]) -> list[str]:
    """The arguments with the names of shipped configurations replaced by their files.

    Raises:
        FileNotFoundError: a configuration that is neither a file nor a name.

    Example:
        >>> with_config_files(["--config", "setup.cfg", "--seed_everything", "0"])
        ['--config', 'setup.cfg', '--seed_everything', '0']
    """
    replaced: list[str] = []
    for index, word in enumerate(args):
        option, equals, value = word.partition("=")
        if equals and option in CONFIG_OPTIONS:
            replaced.append(f"{option}={find_config(value)}")
        elif index and args[index - 1] in CONFIG_OPTIONS and not word.startswith("-"):
            replaced.append(str(find_config(word)))
        else:
            replaced.append(word)
    return replaced


def _report_interrupt(name: str, stop: RunInterruptedError) -> None:
    if stop.resume_with is None:
        report(name, f"{stop}, before anything was saved")
        return
    saved = "" if stop.step is None else f" after step {stop.step}, which is saved"
    report(name, f"{stop}{saved}; resume with:\n  {stop.resume_with}")
