"""Initial weights of a narrower last 1x1 in front of Lite R-ASPP's layers."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from igcv3det.tasks.compress.folded import Affine, fold, set_folded
from igcv3det.tasks.compress.initial import sample, set_projection
from igcv3det.tasks.compress.least_squares import eliminate, fit_through_zero, moments
from igcv3det.tasks.compress.segmenter_parts import COARSE, CoarsePart
from igcv3det.tasks.compress.teacher import Metrics


@torch.no_grad()
def start_coarse(part: CoarsePart, original: CoarsePart, inputs: Tensor, metrics: Metrics) -> None:
    """The most useful channels of the last 1x1, and the layers that read it fitted to them."""
    rows = sample(original.last(inputs))
    reader = fold(original.cbr)
    wanted = rows @ reader.weight[:, :, 0, 0].T + reader.bias
    classes = fold(original.classifier).weight[:, :, 0, 0]
    metric = classes.T @ metrics[COARSE] @ classes  # of an error behind the first reader
    conv = cast(nn.Conv2d, cast(nn.Sequential, part.last)[0])
    kept = eliminate(moments(rows, wanted), metric, conv.out_channels)
    whole = fold(original.last)
    set_folded(part.last, Affine(whole.weight[kept], whole.bias[kept]))
    set_projection(part.cbr, rows[:, kept], wanted)
    part.classifier.load_state_dict(original.classifier.state_dict())
    weigh, other = (cast(nn.Conv2d, own.scale[1]) for own in (part, original))
    target = rows @ other.weight[:, :, 0, 0].T
    weigh.weight.copy_(fit_through_zero(rows[:, kept], target)[:, :, None, None])
