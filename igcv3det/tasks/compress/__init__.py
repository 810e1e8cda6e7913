"""Fits a trained detector to a device: cheaper replacements of its parts under a latency budget.

Sources: LANA (Molchanov et al., ECCV 2022, arXiv 2107.10624): replacements trained one by one
against the teacher's features, chosen by an integer linear program under measured latency; Puzzle
(Bercovich et al., arXiv 2411.19146): replacements scored by the divergence of the outputs.
"""
