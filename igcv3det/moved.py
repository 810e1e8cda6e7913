"""Import paths of before the layout of 2026-11: they still work, with a DeprecationWarning.

`docs/migration.md` has the whole list of what moved. The paths here go with the next release that
breaks compatibility.
"""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

MODULES = {
    "images": "io.images",
    "visualize": "io.drawing",
    "deploy": "fastpath.deploy",
    "inference.media": "io.sources",
    "inference.records": "io.records",
    "inference.scoring": "evaluation.dataset_inference",
    "data.annotations": "datasets.store",
    "data.checks": "datasets.checks",
    "data.coco": "tasks.detect.dataset",
    "data.datamodule": "tasks.detect.datamodule",
    "data.transforms": "tasks.detect.transforms",
    "data.shapes": "shapes.dataset",
    "models.execution": "fastpath.conv_impl",
    "training.callbacks": "engine.callbacks",
    "training.checkpoints": "engine.checkpoints",
    "training.cli": "tasks.detect.train",
    "training.ema": "engine.ema",
    "training.module": "tasks.detect.module",
    "training.optim": "engine.optim",
    "training.run_cli": "engine.run_cli",
    "training.run_folder": "engine.run_folder",
    "measurement.complexity": "measure.complexity",
    "measurement.latency": "measure.latency",
    "export.parity": "measure.parity",
}
"""Old to new, below ``igcv3det``."""
_PACKAGES = {name.split(".")[0] for name in MODULES if "." in name} - {"models", "export"}


class MovedModules(MetaPathFinder, Loader):
    """Gives an old path the module that is now elsewhere: the same object under both names."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        """A specification for the old paths; None for every other name."""
        package, _, name = fullname.partition(".")
        if package != "igcv3det" or name not in MODULES.keys() | _PACKAGES:
            return None
        return ModuleSpec(fullname, self, is_package=name in _PACKAGES)

    def exec_module(self, module: types.ModuleType) -> None:
        """Puts the new module in the place of the one that was about to be made."""
        name = module.__name__.partition(".")[2]
        if name in _PACKAGES:
            return
        new = f"igcv3det.{MODULES[name]}"
        warnings.warn(f"{module.__name__} is now {new}", DeprecationWarning, stacklevel=2)
        found = importlib.import_module(new)
        if name == "training.cli":
            _add_program_main(found)
        sys.modules[module.__name__] = found


def _add_program_main(module: types.ModuleType) -> None:
    """``DetectionCLI.program_main(args)`` of earlier versions: ``main(args)`` of the command."""

    def program_main(args: list[str] | None = None) -> int:
        status: int = importlib.import_module("igcv3det.cli.train").main(args)
        return status

    module.DetectionCLI.program_main = staticmethod(program_main)


def install() -> None:
    """Makes the old paths importable; later calls do nothing."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
