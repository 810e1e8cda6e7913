"""Figures and an HTML report of an evaluation."""
