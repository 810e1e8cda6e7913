"""From annotation files and pictures on disk to batches for the network."""
