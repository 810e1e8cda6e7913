"""The synthetic data sets: outlines painted on random backgrounds, for tests and first runs."""
