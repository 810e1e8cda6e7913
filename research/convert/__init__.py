"""Weights trained elsewhere, turned into this package's own checkpoints."""
