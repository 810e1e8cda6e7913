"""Classification of images: the backbones' own task, with the paper's baselines and settings."""
