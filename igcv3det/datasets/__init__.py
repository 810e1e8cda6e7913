"""Annotation files: readers, checks, the annotation store and its report."""
