"""The synthetic data set: coloured shapes with exact boxes, drawn from a seed."""
