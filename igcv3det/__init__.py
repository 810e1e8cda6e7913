"""IGCV3 and SSDLite: lightweight object detectors, exact to the paper and fast on plain CPUs.

`build_detector` and `load_detector` give a network; `igcv3det.predictor.Predictor` goes from a
image to its objects. Importing this loads neither Lightning, albumentations nor pycocotools.
"""

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
from igcv3det.structures import Categories, Detections, HeadOutputs, Target
from igcv3det.version import __version__

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
    "PreprocessConfig",
    "SSDLite",
    "Target",
    "__version__",
    "build_detector",
    "load_detector",
    "save_detector",
]
