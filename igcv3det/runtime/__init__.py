"""Detectors that ONNX Runtime or OpenVINO computes, from exported files."""

from igcv3det.runtime.exported import (
    EXPORTED_SUFFIXES,
    ExportedDetector,
    ExportFacts,
    Precision,
    load_exported,
)

__all__ = ["EXPORTED_SUFFIXES", "ExportFacts", "ExportedDetector", "Precision", "load_exported"]
