"""What each format's writer gets, and the protocol of a writer."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol

from igcv3det.detector import SSDLite
from igcv3det.export.calibration import CalibrationSet, WeightBits
from igcv3det.fastpath.deploy import Variant
from igcv3det.runtime.export_spec import ExportSpec


class ExportJob(NamedTuple):
    """A checked call of `export_detector`.

    Attributes:
        detector: to write; left unchanged.
        path: of the file; its folder exists.
        spec: what the format supports.
        calibration: images, for int8 only.
        weight_bits: of int8 weights.
        variant: of IGCV3's blocks; None is the fastest of the format's runtime.
    """

    detector: SSDLite
    path: Path
    spec: ExportSpec
    calibration: CalibrationSet | None
    weight_bits: WeightBits
    variant: Variant | None = None


class Writer(Protocol):
    """A module that writes one format; it imports the format's packages when it writes."""

    PACKAGES: tuple[str, ...]
    """What it imports, to be looked for before anything is computed."""

    def write(self, job: ExportJob) -> None:
        """Writes the file, or raises OSError and leaves an earlier one as it was."""
