"""Everything between raw outputs and objects: anchors, coder, matcher, loss, post-processing.

Liu et al., SSD: Single Shot MultiBox Detector, arXiv:1512.02325. No convolution lives here.
"""
