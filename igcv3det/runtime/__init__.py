"""Detectors that ONNX Runtime or OpenVINO computes, from exported files."""

from igcv3det.runtime.exported import EXPORTED_SUFFIXES, ExportedDetector, load_exported
from igcv3det.runtime.facts import ExportFacts, Precision

__all__ = ["EXPORTED_SUFFIXES", "ExportFacts", "ExportedDetector", "Precision", "load_exported"]
