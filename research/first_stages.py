r"""The first stages of a student, trained alone on crops to compute those of a teacher.

The output of the last of them, after a fixed linear map of its channels, is compared with the
teacher's of the same stage: half of the loss is the variance left unexplained, averaged over the
channels, half the error weighted by the Fisher information of the teacher's outputs
(`igcv3det.tasks.compress.features`), as a share of the output's. The map is the least-squares
solution at the start; --no-map compares channel by channel, for a student whose later stages are
the teacher's. Muon trains the 1x1 convolutions, AdamW the rest; norms keep their
statistics. `igcv3det distill` with ``--model.distillation.frozen`` trains the other stages
afterwards.

Example:
    python -m research.first_stages student.safetensors --teacher mobilenetv2 --stage 3 \
        --images coco photos voc --steps 3000 --sharpen 1.6 --output first.safetensors
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.cli.arguments import non_negative_float, positive_float, positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.config import OptimConfig
from igcv3det.config.detector import STAGES
from igcv3det.datasets.image_cache import ImageCache
from igcv3det.detector import SSDLite
from igcv3det.engine.optim import build_optimizer, build_schedule
from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.models.igcv3 import IGCV3
from igcv3det.tasks.compress.design import explicit_detector
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from igcv3det.tasks.compress.features import read_fisher, write_fisher
from igcv3det.tasks.compress.least_squares import cells, fit
from igcv3det.tasks.distill.crops import sharpened
from research.narrowed import BATCH, HELD_OUT, Pixels, random_crops

MAPPED_ON, MEASURED_ON = 96, 192  # images of the linear map, of the Fisher information
_LOGGED = 100  # steps


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("first_stages", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.first_stages", __doc__, program="python -m")
    add = parser.add_argument
    add("student", help="a detector with the teacher's strides")
    add("--teacher", default="mobilenetv2", help="default: mobilenetv2")
    add("--stage", type=int, choices=range(1, STAGES + 1), default=3, help="last that is trained")
    add("--images", required=True, nargs="+", type=Path, help="folders")
    add("--steps", type=positive_int, default=3000, help=f"of {BATCH} crops")
    add("--lr", type=positive_float, default=5e-4, help="of AdamW")
    add("--muon-lr", type=positive_float, default=8e-3, help="of the 1x1 convolutions")
    add("--no-map", action="store_true", help="compare channel by channel")
    add("--sharpen", type=non_negative_float, default=0.0, metavar="S", help="at most; 0: not")
    add("--seed", type=int, default=0)
    add("--cache", type=Path, default=Path("runs/first_stages"))
    add("--output", required=True, type=Path, help="*.safetensors")
    return parser.parse_args(args)


class Unexplained(NamedTuple):
    """What a student leaves of the teacher's output, as shares.

    Attributes:
        plain: of the variance, averaged over channels.
        fisher: of the output's norm by the Fisher information.
    """

    plain: Tensor
    fisher: Tensor


class FirstStages:
    """The first stages of a student and of its teacher.

    Args:
        student: its stem and first stages are trained in place.
        teacher: the original.
        stage: the last of them, from 1.
        fisher: [C', C'] of the teacher's output of that stage.
        images: [B, 3, H, W], normalised, for the linear map of the channels; None: without one.
        held_out: [B, 3, H, W], normalised, for the teacher's variance.

    Raises:
        ValueError: no ``images``, and the student has other channels than the teacher.
    """

    def __init__(
        self,
        student: SSDLite,
        teacher: DetectorTeacher,
        stage: int,
        fisher: Tensor,
        images: Tensor | None,
        held_out: Tensor,
    ) -> None:
        self.own, self._original = (
            first_stages(d.backbone, stage) for d in (student, teacher.network)
        )
        self._fisher = fisher
        with torch.no_grad():
            wanted = self._wanted(held_out)
            self._map = (torch.eye(len(fisher)), torch.zeros(len(fisher)))
            if images is not None:
                self._map = fit(self._own_cells(images), self._wanted(images))
            elif (channels := self._own_cells(held_out).shape[1]) != wanted.shape[1]:
                raise ValueError(
                    f"--no-map: the student has {channels} channels after stage {stage}, the "
                    f"teacher {wanted.shape[1]}"
                )
        self._variance = wanted.var(dim=0)
        self._norm = _weighted(wanted - wanted.mean(dim=0), fisher)

    def unexplained(self, images: Tensor) -> Unexplained:
        """Of normalised images [B, 3, H, W]."""
        with torch.no_grad():
            wanted = self._wanted(images)
        errors = F.linear(self._own_cells(images), *self._map) - wanted
        plain = (errors.square().mean(dim=0) / self._variance).mean()
        return Unexplained(plain, _weighted(errors, self._fisher) / self._norm)

    def _own_cells(self, images: Tensor) -> Tensor:
        return cells(self.own(images))

    def _wanted(self, images: Tensor) -> Tensor:
        return cells(self._original(images))


def first_stages(backbone: nn.Module, stage: int) -> nn.Sequential:
    """Stem and blocks up to a stage, in evaluation mode, channels last."""
    assert isinstance(backbone, IGCV3)
    blocks = list(backbone.blocks)[: backbone.stage_starts[stage]]
    return nn.Sequential(backbone.stem, *blocks).eval().to(memory_format=torch.channels_last)


def _weighted(errors: Tensor, fisher: Tensor) -> Tensor:
    return ((errors @ fisher) * errors).sum(dim=1).mean()


def train(
    stages: FirstStages, teacher: DetectorTeacher, pixels: Pixels, options: argparse.Namespace
) -> None:
    """Trains the student's stages in place, and prints what they leave of the images held out.

    Args:
        stages: of the student and the teacher.
        teacher: normalises the images.
        pixels: [N, H, W, 3] uint8; the last `HELD_OUT` are not trained on.
        options: steps, lr, muon_lr, sharpen and seed.
    """
    config = OptimConfig(
        optimizer="muon", lr=options.lr, muon_lr=options.muon_lr, weight_decay=0, warmup_steps=100
    )
    optimizer = build_optimizer(stages.own, config, options.lr)
    schedule = build_schedule(optimizer, config, options.steps)
    held_out = teacher.inputs(pixels[-HELD_OUT:])
    random = np.random.default_rng(options.seed)
    start = time.monotonic()
    for step in range(options.steps + 1):
        if step % _LOGGED == 0 or step == options.steps:
            with torch.no_grad():
                found = stages.unexplained(held_out)
            print(
                f"step {step}: {found.plain:.4f} of the variance, {found.fisher:.4f} by the Fisher "
                f"information, {time.monotonic() - start:.0f} s",
                flush=True,
            )
        if step < options.steps:
            crops = random_crops(pixels[:-HELD_OUT], random)
            found = stages.unexplained(_inputs(teacher, crops, options.sharpen, random))
            optimizer.zero_grad()
            (found.plain / 2 + found.fisher / 2).backward()
            optimizer.step()
            schedule.step()


def _inputs(
    teacher: DetectorTeacher, crops: Pixels, most: float, random: np.random.Generator
) -> Tensor:
    """Normalised crops, each sharpened by a random strength up to ``most``."""
    if most:
        strengths = torch.from_numpy(random.uniform(0, most, len(crops)).astype(np.float32))
        images = torch.from_numpy(crops).permute(0, 3, 1, 2).float()
        crops = sharpened(images, strengths).round().byte().permute(0, 2, 3, 1).numpy()
    return teacher.inputs(crops)


def _run(options: argparse.Namespace) -> int:
    teacher, student = DetectorTeacher.load(options.teacher), load_detector(options.student)
    if not isinstance(student.backbone, IGCV3):
        student = explicit_detector(student).requires_grad_(True)
    pixels = ImageCache(options.images, teacher.size[0], options.cache).pixels
    count = len(pixels) - HELD_OUT
    if count < 1:
        raise ValueError(f"{len(pixels)} images; {HELD_OUT + 1} are needed")
    mapped_on, measured_on = (
        np.sort(np.random.default_rng(options.seed).choice(count, min(n, count), replace=False))
        for n in (MAPPED_ON, MEASURED_ON)
    )
    last = first_stages(teacher.network.backbone, options.stage)
    with tempfile.TemporaryDirectory() as folder:
        write_fisher(teacher, pixels, measured_on.tolist(), Path(folder))
        fisher = read_fisher(Path(folder))[f"x{len(last) - 2}"]
    images = None if options.no_map else teacher.inputs(pixels[mapped_on])
    held_out = teacher.inputs(pixels[count:])
    set_conv_impl(student, "fast")
    stages = FirstStages(student, teacher, options.stage, fisher, images, held_out)
    train(stages, teacher, pixels, options)
    set_conv_impl(student, "reference")
    save_detector(student.to(memory_format=torch.contiguous_format), options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
