"""Trains one replacement on the teacher's features, and judges it by the teacher's outputs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igcv3det.config import check_fields
from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.tasks.compress.features import Features, FeatureStore
from igcv3det.tasks.compress.least_squares import cells
from igcv3det.tasks.compress.parts import IMAGES, TAP, Part, run_parts
from igcv3det.tasks.compress.start import Replacement
from igcv3det.tasks.compress.teacher import Metrics, Teacher
from igcv3det.tasks.half_floats import from_half

logger = logging.getLogger(__name__)

_CROP = 24  # cells of a crop's output; larger maps are cut
_PLAIN = 0.05  # weight of the unexplained variance beside the Fisher information
_WARMUP = 10  # steps
_JUDGED_AT_ONCE = 16  # images


@dataclass(frozen=True)
class PartTraining:
    """How each replacement is trained."""

    steps: int = 160
    batch_size: int = 24
    lr: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "", steps="[0, inf)", batch_size="[1, inf)", lr="(0, inf)")


class PartLoss:
    """The divergence that errors of a part's outputs cause, nats for an image.

    To second order for feature maps, by the Fisher information of the outputs about them; exactly
    for class scores of detectors.

    Args:
        teacher: the network.
        store: its features.
        metrics: `features.read_fisher`.
    """

    def __init__(self, teacher: Teacher, store: FeatureStore, metrics: Metrics) -> None:
        self.teacher, self.store, self.metrics = teacher, store, metrics
        self._scales: dict[str, tuple[Tensor, Tensor, int]] = {}

    def __call__(self, name: str, own: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one output [B, C, H, W] against the teacher's, a scalar."""
        metric, weights, count = self._scale(name)
        exact = self.teacher.output_loss(name, own, teacher)
        if exact is not None:
            return exact * (count / own[0, 0].numel())
        error = cells(own - teacher)
        felt = ((error @ metric) * error).sum() / len(error)
        plain = (error.square() * weights).sum() / len(error)
        return 0.5 * count * (felt + plain)

    def _scale(self, name: str) -> tuple[Tensor, Tensor, int]:
        if name not in self._scales:
            metric = self.metrics[name]
            some = torch.from_numpy(np.array(self.store.read(name)[:32])).float()
            variance = some.var(dim=(0, 2, 3))
            variance = variance.clamp(min=0.05 * float(variance.mean()) + 1e-12)
            energy = (metric.diagonal() * variance).mean()
            self._scales[name] = (metric, _PLAIN * energy / variance, some[0, 0].numel())
        return self._scales[name]


def train_part(
    replacement: Replacement, loss: PartLoss, store: Features, options: PartTraining
) -> tuple[float, float]:
    """Trains a replacement's part in place; norms keep their statistics.

    Returns:
        The mean loss of the first and of the last tenth of the steps.
    """
    part = replacement.part.eval().requires_grad_(True)
    if options.steps == 0 or next(part.parameters(), None) is None:
        return math.nan, math.nan
    if TAP not in part.outputs:
        set_conv_impl(part, "fast")
    part.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(part.parameters(), lr=options.lr, weight_decay=0.0)
    random = np.random.default_rng(options.seed)
    losses: list[float] = []
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.lr * _schedule(step, options.steps)
        inputs, targets = _batch(part, store, random, options.batch_size)
        margin = part.margin if _is_cropped(part, store) else 0
        total = torch.zeros(())
        for name, own in replacement.outputs(inputs).items():
            total = total + loss(name, _inner(own, margin), _inner(targets[name], margin))
        optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(total.detach()))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError("the loss is not finite")
    set_conv_impl(part, "reference")
    part.requires_grad_(False)
    tenth = max(1, options.steps // 10)
    first, last = losses[:tenth], losses[-tenth:]
    return sum(first) / len(first), sum(last) / len(last)


@torch.no_grad()
def judge(
    teacher: Teacher, position: str, replacement: Replacement | None, store: FeatureStore
) -> float:
    """Divergence of a teacher's outputs with one part replaced, nats for an image.

    Args:
        teacher: the network.
        position: of the part.
        replacement: for the part; None judges the teacher itself: what rounding alone does.
        store: the teacher's features of held-out images.
    """
    parts = teacher.parts()
    names = list(parts)
    later = {name: parts[name] for name in names[names.index(position) + 1 :]}
    replacement = replacement or Replacement(parts[position])
    part = replacement.part
    before = names[: names.index(position)]
    kept = _needed(parts, before, {part.reads for part in later.values()} | {*teacher.outputs})
    total = 0.0
    for start in range(0, store.count, _JUDGED_AT_ONCE):
        rows = slice(start, start + _JUDGED_AT_ONCE)
        found = {name: from_half(store.read(name)[rows]) for name in kept}
        inputs = from_half(store.read(part.reads)[rows])
        found = run_parts(later, found | replacement.outputs(inputs))
        expected = {name: from_half(store.read(name)[rows]) for name in teacher.outputs}
        total += float(teacher.divergence(found, expected).sum())
    return total / store.count


def _needed(parts: Mapping[str, Part], before: list[str], wanted: set[str]) -> list[str]:
    """Values of the parts before that are wanted."""
    written = {name for position in before for name in parts[position].outputs} | {IMAGES}
    return sorted(written & wanted)


def _schedule(step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / _WARMUP)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _is_cropped(part: Part, store: Features) -> bool:
    sides = store.read(part.outputs[-1]).shape[-2:]
    return part.is_local and min(sides) > _CROP + 2 * part.margin


def _inner(x: Tensor, margin: int) -> Tensor:
    return x[..., margin:-margin, margin:-margin] if margin else x


def _batch(
    part: Part, store: Features, random: np.random.Generator, count: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs and targets of some images, cut to the same random window where maps are large."""
    rows = np.sort(random.choice(store.count, min(count, store.count), replace=False))
    files: dict[str, Any] = {name: store.read(name) for name in (part.reads, *part.outputs)}
    if not _is_cropped(part, store):
        taken = {name: from_half(file[rows]) for name, file in files.items()}
        return taken[part.reads], {name: taken[name] for name in part.outputs}
    whole, entering = files[part.outputs[-1]].shape[-2:], files[part.reads].shape[-2:]
    side = _CROP + 2 * part.margin
    y, x = (int(random.integers(0, length - side + 1)) for length in whole)
    # the same parity as the whole sides: SAME padding depends on it
    height, width = (part.stride * side - (n % 2 if part.stride > 1 else 0) for n in entering)
    start = y * part.stride, x * part.stride
    inputs = _window(files[part.reads], rows, start, (height, width))
    targets = {}
    for name in part.outputs:
        is_fine = files[name].shape[-2:] == entering  # of the input's size
        window = (start, (height, width)) if is_fine else ((y, x), (side, side))
        targets[name] = _window(files[name], rows, *window)
    return inputs, targets


def _window(
    file: Any,  # noqa: ANN401
    rows: NDArray[np.int64],
    start: tuple[int, int],
    size: tuple[int, int],
) -> Tensor:
    down, across = (slice(begin, begin + n) for begin, n in zip(start, size, strict=True))
    return from_half(np.stack([file[row, :, down, across] for row in rows]))
