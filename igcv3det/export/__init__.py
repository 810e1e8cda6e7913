"""Writes detectors for other runtimes, quantises them and compares the files with PyTorch."""

from igcv3det.export.calibration import CALIBRATION_IMAGES, CalibrationSet, list_images
from igcv3det.export.exporter import export_detector

__all__ = ["CALIBRATION_IMAGES", "CalibrationSet", "export_detector", "list_images"]
