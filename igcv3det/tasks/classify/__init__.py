"""Image classification: the backbones, the paper's baselines, and their training settings."""
