"""Detectors that ONNX Runtime or OpenVINO computes, from exported files."""

from igcv3det.runtime.export_spec import ExportSpec, Precision
from igcv3det.runtime.exported import EXPORTED_SUFFIXES, ExportedDetector, load_exported

__all__ = ["EXPORTED_SUFFIXES", "ExportSpec", "ExportedDetector", "Precision", "load_exported"]
