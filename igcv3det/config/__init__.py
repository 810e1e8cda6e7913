"""Every tuning number of the package, once, with unit and source.

Frozen dataclasses of plain values: `tasks.detect.train` reads them from YAML, checkpoints store
them as dictionaries, and code takes them as arguments. Nothing but the standard library is
imported.
"""

from igcv3det.config.anchors import AnchorConfig
from igcv3det.config.detector import (
    STAGES,
    BackboneConfig,
    BlockConfig,
    DetectorConfig,
    Groups,
    HeadConfig,
    Padding,
    PostprocessConfig,
    PreprocessConfig,
)
from igcv3det.config.training import AugmentConfig, LossConfig, OptimConfig
from igcv3det.config.values import (
    Config,
    RangeError,
    check_fields,
    config_from_dict,
    flatten,
    merge_config,
    require,
    unflatten,
)

__all__ = [
    "STAGES",
    "AnchorConfig",
    "AugmentConfig",
    "BackboneConfig",
    "BlockConfig",
    "Config",
    "DetectorConfig",
    "Groups",
    "HeadConfig",
    "LossConfig",
    "OptimConfig",
    "Padding",
    "PostprocessConfig",
    "PreprocessConfig",
    "RangeError",
    "check_fields",
    "config_from_dict",
    "flatten",
    "merge_config",
    "require",
    "unflatten",
]
