"""A student's channels in the teacher's terms: the linear map between them that fits best."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

_IMAGES = 128  # that the moving moments reach back over
_RIDGE = 1e-3  # of the moments' diagonal


class ChannelMap(nn.Module):
    """The least-squares map from the student's channels to the teacher's, cell by cell.

    In an IGCV3 it matters which channel is which, for every group sees its own share only; in the
    teacher, between two dense convolutions, it does not. So a stage may be asked for what the
    teacher's holds in any basis of its own. No gradient goes into the map, and none is missing: at
    the map that fits best the error does not depend on it in first order.

    Args:
        student: C.
        teacher: C'.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.register_buffer("second", torch.zeros(student + 1, student + 1))
        self.register_buffer("cross", torch.zeros(student + 1, teacher))
        self.register_buffer("weight", torch.zeros(student + 1, teacher))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C', H, W]; in training the batch joins the moments first."""
        with torch.autocast(x.device.type, enabled=False):
            cells = x.float().permute(0, 2, 3, 1)
            if self.training:
                self._learn(cells.detach(), target.float())
            weight = cast(Tensor, self.weight)
            out = cells @ weight[:-1] + weight[-1]  # the last row is the constant
        return out.permute(0, 3, 1, 2)

    @torch.no_grad()
    def _learn(self, cells: Tensor, target: Tensor) -> None:
        own = cells.flatten(0, 2)
        own = torch.cat([own, torch.ones_like(own[:, :1])], dim=1)
        wanted = target.permute(0, 2, 3, 1).flatten(0, 2)
        batches = cast(Tensor, self.batches).add_(1)
        second, cross = cast(Tensor, self.second), cast(Tensor, self.cross)
        share = torch.clamp(1 / batches, min=min(1.0, len(cells) / _IMAGES))
        second.lerp_(own.T @ own / len(own), share)
        cross.lerp_(own.T @ wanted / len(own), share)
        ridge = second + _RIDGE * torch.diag(second.diagonal())
        cast(Tensor, self.weight).copy_(torch.linalg.solve(ridge.double(), cross.double()))
