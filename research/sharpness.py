r"""How much detail the images of folders have at the size of a network's input.

The mean power spectrum of the grey images, by cycles across an image, as a share of the first
folder's. Images that were stored smaller than the input, and enlarged, lack the high frequencies
(docs/research/sharpness.md). --sharpen S filters the other folders' images as distillation does
with ``data.crop.sharpen`` at strength S. --as-small DIR writes the images of the first folder at
their own size with no more detail than they have at 256 pixels, to evaluate on.

Usage:
    python -m research.sharpness coco/val2017 photos voc2012/train [--sharpen 1]
    python -m research.sharpness coco/val2017 --as-small small

Exit status: 0 done, 1 could not be done, 2 wrong call.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage

from igcv3det.cli.arguments import non_negative_float, positive_int
from igcv3det.cli.command import command_parser, run_command
from igcv3det.datasets.image_cache import ImageCache, require_images
from igcv3det.io.images import read_image, write_image
from igcv3det.tasks.distill.crops import sharpened

BANDS = (5, 15, 30, 60, 90, 110, 130, 150)
"""Limits of the bands, cycles across an image of 300 pixels."""
SMALL, QUALITY = 256, 65  # pixels, of WebP
Spectrum = NDArray[np.float64]


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("sharpness", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.sharpness", __doc__, program="python -m")
    parser.add_argument("folders", nargs="+", type=Path, help="of images")
    parser.add_argument("--images", type=positive_int, default=120, help="of each folder")
    parser.add_argument("--side", type=positive_int, default=300, help="pixels")
    parser.add_argument("--sharpen", type=non_negative_float, default=0.0, metavar="S")
    parser.add_argument("--as-small", type=Path, metavar="DIR")
    parser.add_argument("--cache", type=Path, default=Path("runs/sharpness"))
    return parser.parse_args(args)


def spectrum(pixels: NDArray[np.float32], bands: tuple[int, ...] = BANDS) -> Spectrum:
    """Mean power of images in bands of frequency.

    Args:
        pixels: [N, S, S, 3] RGB, 0..255.
        bands: limits, cycles across an image.

    Returns:
        [len(bands) - 1].
    """
    side = pixels.shape[1]
    grey = pixels.mean(axis=-1)
    grey -= grey.mean(axis=(1, 2), keepdims=True)
    window = np.hanning(side)[:, None] * np.hanning(side)  # borders are no detail
    power = np.abs(np.fft.fft2(grey * window)) ** 2
    frequencies = np.fft.fftfreq(side, 1 / side)
    radius = np.hypot(frequencies[:, None], frequencies)
    limits = itertools.pairwise(bands)
    return np.array([power[:, (radius >= a) & (radius < b)].mean() for a, b in limits])


def write_as_small(folder: Path, output: Path) -> int:
    """Writes a folder's images at their own size, with the detail that `SMALL` pixels can have.

    Returns:
        Number of images.

    Raises:
        FileNotFoundError: no image in the folder.
    """
    paths = require_images(folder)
    for path in paths:
        whole = PillowImage.fromarray(read_image(path))  # as networks see it
        buffer = io.BytesIO()
        whole.resize((SMALL, SMALL), PillowImage.Resampling.BICUBIC).save(
            buffer, "WEBP", quality=QUALITY
        )
        with PillowImage.open(buffer) as small:
            enlarged = small.resize(whole.size, PillowImage.Resampling.BICUBIC)
        write_image(output / path.name, np.asarray(enlarged))
    return len(paths)


def _run(options: argparse.Namespace) -> int:
    if options.as_small:
        count = write_as_small(options.folders[0], options.as_small)
        print(f"{options.as_small}: {count} images")
        return 0
    bands = tuple(min(limit, options.side // 2) for limit in BANDS)
    bands = tuple(dict.fromkeys(bands))
    print("cycles", *(f"{a} to {b}" for a, b in itertools.pairwise(bands)), sep="\t")
    first: Spectrum | None = None
    for folder in options.folders:
        cache = ImageCache([folder], options.side, options.cache, most=options.images)
        pixels = cache.pixels.astype(np.float32)
        if first is not None and options.sharpen:
            images = torch.from_numpy(pixels).movedim(-1, 1)
            strengths = torch.full((len(images),), options.sharpen)
            pixels = sharpened(images, strengths).movedim(1, -1).numpy()
        found = spectrum(pixels, bands)
        first = found if first is None else first
        print(folder, *(f"{share:.2f}" for share in found / first), sep="\t")
    return 0


if __name__ == "__main__":
    sys.exit(main())
