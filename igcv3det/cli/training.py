"""What the commands that train share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from igcv3det.config_files import find_config

if TYPE_CHECKING:
    from igcv3det.engine.run_cli import RunCLI

CONFIG_OPTIONS = ("-c", "--config")


def prepare_process() -> None:
    """Sets up threads and memory; call before torch is imported."""
    # OpenMP threads that wait spin only briefly, so that the data loaders' processes get the cores
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from igcv3det.engine.malloc import tune_malloc

    tune_malloc()


def train(program: type[RunCLI], args: list[str]) -> int:
    """Trains as the arguments say."""
    return program.program_main(with_config_files(args))


def with_config_files(args: list[str]) -> list[str]:
    """The arguments with the names of shipped configurations replaced by their files.

    Raises:
        FileNotFoundError: a configuration that is neither a file nor a name.

    Example:
        >>> with_config_files(["--config", "igcv3det/config.py", "--images", "0"])
        ['--config', 'igcv3det/config.py', '--images', '0']
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
