"""Faster implementations of the networks in `models`; they compute the same functions."""
