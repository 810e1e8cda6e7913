"""Training with PyTorch Lightning: optimizer, averaged weights, checkpoints, command line."""
