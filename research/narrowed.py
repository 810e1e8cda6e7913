r"""A detector with narrower blocks, started by least squares; the first of them are trained.

Each narrower block keeps the hidden channels of most use, and its projection is fitted to the
original's output (`igcv3det.tasks.compress.initial`). The blocks up to --train-until are then
trained together, on crops, to compute the original's output of the last of them: where maps are
large this takes minutes. `igcv3det distill` trains the whole detector afterwards.

Example:
    python -m research.narrowed searched-90 --images coco photos voc --hidden 1=48 2=80 16=720 \
        --train-until 2 --output narrowed.safetensors
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.checkpoint import save_detector
from igcv3det.cli.command import command_parser, run_command
from igcv3det.datasets.image_cache import ImageCache
from igcv3det.detector import SSDLite
from igcv3det.models.igcv3 import IGCV3
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.detector_teacher import DetectorTeacher
from igcv3det.tasks.compress.parts import IMAGES, run_parts
from igcv3det.tasks.compress.start import start_candidate

STARTED_ON, HELD_OUT = 64, 24  # images
BATCH, CROP = 24, 128  # images, pixels
LR = 8e-4
_LOGGED = 100  # steps

Pixels = NDArray[np.uint8]


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("narrowed", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.narrowed", __doc__, program="python -m")
    parser.add_argument("checkpoint", help="the original")
    parser.add_argument("--images", required=True, nargs="+", type=Path, help="folders")
    parser.add_argument(
        "--hidden", required=True, nargs="+", metavar="BLOCK=CHANNELS", help="blocks from 0"
    )
    parser.add_argument("--train-until", type=int, default=0, metavar="BLOCK")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, default=Path("runs/narrowed"))
    parser.add_argument("--output", required=True, type=Path, help="*.safetensors")
    return parser.parse_args(args)


def hidden_channels(words: list[str]) -> dict[int, int]:
    """Hidden channels by number of the block, of words such as "1=48".

    Raises:
        ValueError: another word.
    """
    for word in words:
        if not re.fullmatch(r"\d+=\d+", word):
            raise ValueError(f"--hidden takes BLOCK=CHANNELS, such as 1=48, not {word!r}")
    pairs = (word.split("=") for word in words)
    return {int(block): int(channels) for block, channels in pairs}


@torch.no_grad()
def narrowed(teacher: DetectorTeacher, hidden: Mapping[int, int], images: Tensor) -> SSDLite:
    """The original with narrower blocks, each started on the original's own features.

    Args:
        teacher: the original.
        hidden: channels by number of the block.
        images: [B, 3, H, W], normalised.

    Raises:
        ValueError: a block that is not there, has no expansion or as few hidden channels.
    """
    changes = {}
    for number, channels in hidden.items():
        if not 0 < number < len(teacher.blocks):
            raise ValueError(
                f"--hidden {number}: blocks are numbered 1 to {len(teacher.blocks) - 1}"
            )
        block = teacher.blocks[number]
        if block.hidden is None or not 0 < channels < block.hidden:
            raise ValueError(f"--hidden {number}={channels}: the block has {block.hidden}")
        changes[f"blocks.{number}"] = (dataclasses.replace(block, hidden=channels),)
    design = teacher.design | changes
    network = teacher.build(design)
    own, original = teacher.split(network, design), teacher.parts()
    found = run_parts(original, {IMAGES: images})
    for name, part in original.items():
        source = part
        key = f"blocks.{name.removeprefix('block')}"
        if key in changes:
            output = part.outputs[-1]
            metric = {output: torch.eye(found[output].shape[1])}
            candidate = Candidate(name, "narrower", {key: changes[key]})
            source = start_candidate(candidate, teacher, found[part.reads], metric).part
        own[name].load_state_dict(source.state_dict())
    return network.eval()


def train_start(
    network: SSDLite, teacher: DetectorTeacher, until: int, pixels: Pixels, steps: int, seed: int
) -> list[float]:
    """Trains the first blocks, in place; norms keep their statistics.

    Args:
        network: from `narrowed`.
        teacher: the original.
        until: number of the block whose output is compared.
        pixels: [N, H, W, 3] uint8; the last `HELD_OUT` are not trained on.
        steps: of AdamW, at a rate that falls to 0 as half a cosine.
        seed: of the crops.

    Returns:
        The variance of the original's output that is left unexplained on the images held out,
        averaged over channels: before, and after the training.
    """
    own, original = (_first(cast(IGCV3, n.backbone), until) for n in (network, teacher.network))
    held_out = teacher.inputs(pixels[-HELD_OUT:])
    with torch.no_grad():
        variance = original(held_out).var(dim=(0, 2, 3))

    def unexplained(images: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = original(images)
        return ((own(images) - wanted).square().mean(dim=(0, 2, 3)) / variance).mean()

    with torch.no_grad():
        found = [float(unexplained(held_out))]
    weights = [p for n, part in enumerate(own) if n > 1 for p in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=LR, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1, (step + 1) / 100) * (1 + math.cos(math.pi * step / steps)) / 2,
    )
    generator = np.random.default_rng(seed)
    for step in range(steps):
        loss = unexplained(teacher.inputs(random_crops(pixels[:-HELD_OUT], generator)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % _LOGGED == 0:
            print(f"step {step + 1}: {loss.item():.4f} unexplained in training", flush=True)
    with torch.no_grad():
        found.append(float(unexplained(held_out)))
    return found


def _first(backbone: IGCV3, until: int) -> nn.Sequential:
    return nn.Sequential(backbone.stem, *list(backbone.blocks)[: until + 1])


def random_crops(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """`BATCH` squares of `CROP` pixels, or the image's side, [B, H, W, 3] of [N, H, W, 3]."""
    rows = np.sort(generator.choice(len(pixels), BATCH, replace=len(pixels) < BATCH))
    side = min(CROP, *pixels.shape[1:3])
    crops = []
    for row in rows:
        top, left = (generator.integers(0, extent - side + 1) for extent in pixels.shape[1:3])
        crops.append(pixels[row, top : top + side, left : left + side])
    return np.stack(crops)


def _run(options: argparse.Namespace) -> int:
    hidden = hidden_channels(options.hidden)
    teacher = DetectorTeacher.load(options.checkpoint)
    pixels = ImageCache(options.images, teacher.size[0], options.cache).pixels
    if len(pixels) <= STARTED_ON + HELD_OUT:
        raise ValueError(f"{len(pixels)} images; {STARTED_ON + HELD_OUT + 1} are needed")
    if not 0 <= options.train_until < len(teacher.blocks):
        raise ValueError(f"--train-until {options.train_until}: no such block")
    rows = np.random.default_rng(options.seed).choice(
        len(pixels) - HELD_OUT, STARTED_ON, replace=False
    )
    network = narrowed(teacher, hidden, teacher.inputs(pixels[np.sort(rows)]))
    if options.train_until:
        before, after = train_start(
            network, teacher, options.train_until, pixels, options.steps, options.seed
        )
        print(f"unexplained after block {options.train_until}: {before:.4f}, trained {after:.4f}")
    save_detector(network, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
