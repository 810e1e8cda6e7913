"""What a search is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from igcv3det.measure.targets import Library
from igcv3det.runtime.export_spec import Precision
from igcv3det.tasks.compress.price import Price
from igcv3det.tasks.compress.training import PartTraining

MEASURES = Price._fields
Budgets = Mapping[str, float]
"""By measure, as shares of the original's."""


@dataclass(frozen=True)
class SearchOptions:
    """What is searched, and where."""

    checkpoint: str
    images: str
    folder: Path
    backend: Library = "onnxruntime"
    threads: int = 2
    precision: Precision = "fp32"
    workers: int = 2
    image_count: int = 512
    grouped_stages: tuple[int, ...] = ()
    measures: tuple[str, ...] = ("latency",)
    image_sizes: tuple[int, ...] = ()
    training: PartTraining = field(default_factory=PartTraining)

    @property
    def runtime(self) -> str:
        """What runs the candidates, as reports and records name it."""
        return self.backend if self.precision == "fp32" else f"{self.backend} {self.precision}"
