"""The best-fitting linear map from a student's channels to the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from igcv3det.detection.losses import average_over_processes, process_count
from igcv3det.detector import SSDLite
from igcv3det.tasks.distill.start import stage_channels
from igcv3det.tasks.distill.teacher import part_name

_IMAGES = 128  # over which the moments are averaged
_RIDGE = 1e-3  # share of the moments' diagonal that is added to it


def build_channel_maps(student: SSDLite, teacher: SSDLite, stages: Sequence[int]) -> nn.ModuleDict:
    """A `ChannelMap` for each of some stages, 1 to 7, under `part_name`."""
    return nn.ModuleDict(
        {
            part_name(stage): ChannelMap(*(stage_channels(d, stage) for d in (student, teacher)))
            for stage in stages
        }
    )


class ChannelMap(nn.Module):
    """The least-squares map from the student's channels to the teacher's, cell by cell.

    In an IGCV3 the order of the channels matters, because every group reads its own share of them;
    in the teacher, between two dense convolutions, it does not. With the map, a student's stage may
    hold the teacher's features in another basis. The map needs no gradient: at the least-squares
    solution the derivative of the error with respect to the map is zero. The processes of a
    distributed run share one map.

    Args:
        student: C, channels of the student.
        teacher: C', channels of the teacher.
    """

    def __init__(self, student: int, teacher: int) -> None:
        super().__init__()
        self.register_buffer("second", torch.zeros(student + 1, student + 1))
        self.register_buffer("cross", torch.zeros(student + 1, teacher))
        self.register_buffer("weight", torch.zeros(student + 1, teacher))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, target: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, C', H, W]; in training, the batch updates the map first."""
        with torch.autocast(x.device.type, enabled=False):
            cells = x.float().permute(0, 2, 3, 1)
            if self.training:
                self._update(cells.detach(), target.float())
            weight = cast(Tensor, self.weight)
            out = cells @ weight[:-1] + weight[-1]  # the last row is the constant
        return out.permute(0, 3, 1, 2)

    @torch.no_grad()
    def _update(self, cells: Tensor, target: Tensor) -> None:
        own = cells.flatten(0, 2)
        own = torch.cat([own, torch.ones_like(own[:, :1])], dim=1)
        expected = target.permute(0, 2, 3, 1).flatten(0, 2)
        batches = cast(Tensor, self.batches).add_(1)
        images = len(cells) * process_count()
        second, cross = cast(Tensor, self.second), cast(Tensor, self.cross)
        share = torch.clamp(1 / batches, min=min(1.0, images / _IMAGES))
        second.lerp_(average_over_processes(own.T @ own / len(own)), share)
        cross.lerp_(average_over_processes(own.T @ expected / len(own)), share)
        ridge = second + _RIDGE * torch.diag(second.diagonal())
        cast(Tensor, self.weight).copy_(torch.linalg.solve(ridge.double(), cross.double()))
