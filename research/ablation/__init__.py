"""Ablation studies: experiments with several seeds, their tables and curves."""
