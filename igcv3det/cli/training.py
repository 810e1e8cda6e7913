"""What the commands that train share."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from igcv3det.engine.run_cli import RunCLI


def prepare_process() -> None:
    """Sets up threads and memory; call before torch is imported."""
    # OpenMP threads that wait spin only briefly, so that the data loaders' processes get the cores
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from igcv3det.engine.malloc import tune_malloc

    tune_malloc()


def train(program: type[RunCLI], args: list[str]) -> int:
    """Trains as the arguments say."""
    return program.program_main(args)
