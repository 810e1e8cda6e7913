"""Exported detectors, computed by ONNX Runtime or OpenVINO."""

from igcv3det.runtime.export_spec import ExportSpec, Precision
from igcv3det.runtime.exported import EXPORTED_SUFFIXES, ExportedDetector, load_exported

__all__ = ["EXPORTED_SUFFIXES", "ExportSpec", "ExportedDetector", "Precision", "load_exported"]
