"""IGCV3 and SSDLite: lightweight object detectors, exact to the paper and fast on plain CPUs.

`Predictor` detects objects in images; `train` fine-tunes on a data set; `build_detector` and
`load_detector` return a network. The names below are imported when they are first used: importing
the package imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from igcv3det import moved
from igcv3det.version import __version__

if TYPE_CHECKING:
    from igcv3det.checkpoint import load_detector, save_detector
    from igcv3det.config import (
        AnchorConfig,
        AugmentConfig,
        BackboneConfig,
        DetectorConfig,
        HeadConfig,
        LossConfig,
        OptimConfig,
        PostprocessConfig,
        PreprocessConfig,
    )
    from igcv3det.detector import SSDLite, build_detector
    from igcv3det.predictor import Predictor
    from igcv3det.structures import Categories, Detections, HeadOutputs, Target
    from igcv3det.tasks.detect.train_data import train

__all__ = [
    "AnchorConfig",
    "AugmentConfig",
    "BackboneConfig",
    "Categories",
    "Detections",
    "DetectorConfig",
    "HeadConfig",
    "HeadOutputs",
    "LossConfig",
    "OptimConfig",
    "PostprocessConfig",
    "Predictor",
    "PreprocessConfig",
    "SSDLite",
    "Target",
    "__version__",
    "build_detector",
    "load_detector",
    "save_detector",
    "train",
]

_MODULES = {
    "checkpoint": ("load_detector", "save_detector"),
    "config": tuple(name for name in __all__ if name.endswith("Config")),
    "detector": ("SSDLite", "build_detector"),
    "predictor": ("Predictor",),
    "structures": ("Categories", "Detections", "HeadOutputs", "Target"),
    "tasks.detect.train_data": ("train",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}


moved.install()


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
