"""Classification of pictures: the backbones' own task, with the paper's rivals and settings."""
