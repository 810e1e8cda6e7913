"""Semantic segmentation: a class for every pixel, on the backbones of the detectors."""
