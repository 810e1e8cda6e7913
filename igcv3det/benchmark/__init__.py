"""Detectors, libraries and precisions timed against each other; used by ``tools/benchmark.py``."""
