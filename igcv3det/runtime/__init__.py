"""Exported detectors, each computed by the runtime of its format."""

from igcv3det.export_formats import EXPORTED_SUFFIXES
from igcv3det.runtime.export_spec import ExportSpec, Precision
from igcv3det.runtime.exported import ExportedDetector, load_exported

__all__ = ["EXPORTED_SUFFIXES", "ExportSpec", "ExportedDetector", "Precision", "load_exported"]
