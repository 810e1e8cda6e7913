"""Least-squares fits between channels of feature maps, from their moments."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 1e-4
"""Share of the mean variance that is added to every variance."""


class Moments(NamedTuple):
    """Means and covariances of channels over cells, float64.

    Attributes:
        mean: [C].
        covariance: [C, C], with the ridge on its diagonal.
        cross: [C, C'], covariance with the targets.
        target_mean: [C'].
    """

    mean: Tensor
    covariance: Tensor
    cross: Tensor
    target_mean: Tensor


def cells(x: Tensor) -> Tensor:
    """[B H W, C] of a feature map [B, C, H, W]."""
    return x.permute(0, 2, 3, 1).flatten(0, 2)


def moments(x: Tensor, y: Tensor) -> Moments:
    """The moments of rows [N, C] and targets [N, C']."""
    x, y = x.double(), y.double()
    mean, target_mean = x.mean(dim=0), y.mean(dim=0)
    centred = x - mean
    covariance = centred.T @ centred / len(x)
    covariance += RIDGE * covariance.diagonal().mean().clamp(min=1e-12) * torch.eye(len(mean))
    return Moments(mean, covariance, centred.T @ (y - target_mean) / len(x), target_mean)


def fit(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Weight [C', C] and bias [C'] that map rows x [N, C] closest to rows y [N, C']."""
    found = moments(x, y)
    weight = torch.linalg.solve(found.covariance, found.cross).T
    return weight.float(), (found.target_mean - weight @ found.mean).float()


def fit_through_zero(x: Tensor, y: Tensor) -> Tensor:
    """As `fit`, without bias: the weight [C', C]."""
    x, y = x.double(), y.double()
    squares = x.T @ x / len(x)
    squares += RIDGE * squares.diagonal().mean().clamp(min=1e-12) * torch.eye(len(squares))
    weight: Tensor = torch.linalg.solve(squares, x.T @ y / len(x)).T.float()
    return weight


def eliminate(found: Moments, metric: Tensor, keep: int) -> Tensor:
    """Channels that remain when the least useful ones are left out, one small share after another.

    What each removal costs, with the weights of all other channels fitted anew, is exact: the
    optimal brain surgeon (Hassibi and Stork, NIPS 1992) on the least-squares problem.

    Args:
        found: moments of the channels and of the targets.
        metric: [C', C'] positive semidefinite, weighs errors of the targets.
        keep: number of channels that remain.

    Returns:
        [keep] int64, ascending.
    """
    inverse = torch.linalg.inv(found.covariance)
    weight = inverse @ found.cross  # [C, C']
    metric = metric.double()
    left = np.arange(len(inverse))
    while len(left) > keep:
        cost = ((weight @ metric) * weight).sum(dim=1) / inverse.diagonal()
        count = min(len(left) - keep, max(1, len(left) // 64))
        gone = torch.topk(cost, count, largest=False).indices
        stays = torch.ones(len(left), dtype=torch.bool)
        stays[gone] = False
        solved = torch.linalg.solve(inverse[gone][:, gone], inverse[gone][:, stays])
        weight = weight[stays] - solved.T @ weight[gone]
        inverse = inverse[stays][:, stays] - inverse[stays][:, gone] @ solved
        left = left[stays.numpy()]
    return torch.from_numpy(left)


def reduced_rank(
    weight: Tensor, covariance: Tensor, metric: Tensor, rank: int
) -> tuple[Tensor, Tensor]:
    """The two factors of the matrix of a rank that is closest to a weight.

    Closest in the mean of ``e^T M e``, e being the error of the outputs for inputs of a covariance
    (reduced-rank regression, Izenman 1975).

    Args:
        weight: [C', C].
        covariance: [C, C] of the inputs, positive definite.
        metric: [C', C'] M, positive semidefinite.
        rank: of the product.

    Returns:
        [C', rank] and [rank, C]; columns and rows beyond the weight's own rank are 0.
    """
    weight = weight.double()
    scale = metric.double().diagonal().mean().clamp(min=1e-12)  # a map may tell the outputs nothing
    ridge = 1e-3 * scale * torch.eye(len(weight), dtype=torch.float64)
    of_outputs = torch.linalg.cholesky(metric.double() + ridge)  # M = L L^T
    of_inputs = torch.linalg.cholesky(covariance.double())
    u, s, vh = torch.linalg.svd(of_outputs.T @ weight @ of_inputs, full_matrices=False)
    root = s[:rank].sqrt()
    left = torch.linalg.solve_triangular(of_outputs.T, u[:, :rank] * root, upper=True)
    right = torch.linalg.solve_triangular(
        of_inputs, root[:, None] * vh[:rank], upper=False, left=False
    )
    spare = rank - left.shape[1]
    return F.pad(left, (0, spare)).float(), F.pad(right, (0, 0, 0, spare)).float()
