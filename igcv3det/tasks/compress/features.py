"""The teacher's feature maps of some images on disk, and how much its outputs feel their errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igcv3det.atomic_files import atomic_write, replacing
from igcv3det.detector import SSDLite
from igcv3det.preprocess import Preprocess
from igcv3det.tasks.compress.least_squares import cells
from igcv3det.tasks.compress.parts import IMAGES, Part, head_outputs, parts_of, run_parts
from igcv3det.tasks.divergence import fisher_direction
from igcv3det.weight_files import read_safetensors, write_safetensors

BATCH = 8  # images
FISHER_IMAGES = 96
_LARGEST = 6e4  # float16 ends at 65504
_DONE, _FISHER = "features.json", "fisher.safetensors"
Pixels = NDArray[np.uint8]


class Features(Protocol):
    """Values of parts for the same images."""

    count: int

    def read(self, name: str) -> NDArray[np.float16]:
        """[N, C, H, W] of a value."""


class FeatureStore:
    """The values of all parts of a teacher for some images, as float16 on disk.

    Args:
        folder: of the files, made by `write_features`.

    Attributes:
        count: images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = int(json.loads((folder / _DONE).read_text(encoding="utf-8"))["images"])

    def read(self, name: str) -> NDArray[np.float16]:
        """[N, C, H, W] of a value, mapped into memory."""
        found: NDArray[np.float16] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return found


def to_half(x: Tensor) -> NDArray[np.float16]:
    """A value as it is kept."""
    half: NDArray[np.float16] = x.clamp(-_LARGEST, _LARGEST).half().numpy()
    return half


def from_half(kept: NDArray[np.float16]) -> Tensor:
    """A kept value, float32 in the channels-last layout."""
    x = torch.from_numpy(np.array(kept)).float()
    return x.contiguous(memory_format=torch.channels_last)


def _network_input(teacher: SSDLite, pixels: Pixels) -> Tensor:
    """[B, 3, S, S] of images [B, S, S, 3] that have the network's size."""
    preprocess = Preprocess(teacher.config.preprocess, teacher.config.image_size)
    images = torch.stack([preprocess.normalize(image) for image in pixels])
    return images.contiguous(memory_format=torch.channels_last)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def network_inputs(teacher: SSDLite, pixels: Pixels, rows: Sequence[int]) -> Iterator[Tensor]:
    """Normalised images [B, 3, S, S] of some rows of ``pixels`` [N, S, S, 3], in batches."""
    for start in range(0, len(rows), BATCH):
        yield _network_input(teacher, pixels[list(rows[start : start + BATCH])])


@torch.no_grad()
def write_features(teacher: SSDLite, pixels: Pixels, rows: Sequence[int], folder: Path) -> None:
    """Writes the values of all parts of a teacher; does nothing where they are complete.

    Args:
        teacher: with listed blocks (`design.explicit_detector`).
        pixels: [N, S, S, 3] uint8 RGB; every second image that is taken is mirrored.
        rows: the images to take.
        folder: for the files.

    Raises:
        OSError: the disk is full.
    """
    if (folder / _DONE).is_file() and FeatureStore(folder).count == len(rows):
        return
    parts = parts_of(teacher)
    files: dict[str, BinaryIO] = {}
    with ExitStack() as stack:
        for start in range(0, len(rows), BATCH):
            taken = np.array(pixels[list(rows[start : start + BATCH])])
            taken[1::2] = taken[1::2, :, ::-1]
            for name, value in run_parts(parts, {IMAGES: _network_input(teacher, taken)}).items():
                if name not in files:
                    # written, not mapped: a full disk is an error then, not the end of the process
                    partial = stack.enter_context(replacing(folder / f"{name}.npy", durable=False))
                    files[name] = stack.enter_context(partial.open("wb"))
                    _write_header(files[name], (len(rows), *value.shape[1:]))
                files[name].write(to_half(value).tobytes())
    atomic_write(folder / _DONE, json.dumps({"images": len(rows)}))


def write_fisher(
    teacher: SSDLite, pixels: Pixels, rows: Sequence[int], folder: Path, seed: int = 0
) -> None:
    """Writes the Fisher information of the outputs about each value; does nothing if it is there.

    This is the factor of K-FAC (Martens and Grosse, arXiv 1503.05671) that belongs to the outputs
    of a layer: what an error of a feature map does to class scores and offsets, to second order.

    Args:
        teacher: with listed blocks.
        pixels: [N, S, S, 3] uint8 RGB.
        rows: the images to use.
        folder: for the file.
        seed: of the random directions.
    """
    path = folder / _FISHER
    if path.is_file():
        return
    parts = parts_of(teacher)
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    for images in network_inputs(teacher, pixels, rows):
        for name, gradient in _gradients(teacher, parts, images, generator).items():
            found = cells(gradient)
            share = len(images) / len(rows) / len(found)
            sums[name] = sums.get(name, torch.zeros(())) + found.T @ found * share
    write_safetensors(path, {name: value.contiguous() for name, value in sums.items()}, {})


def read_fisher(folder: Path) -> dict[str, Tensor]:
    """What `write_fisher` wrote.

    Returns:
        [C, C] by name of the value: nats for each cell and unit of squared error, averaged over
        cells.
    """
    return read_safetensors(folder / _FISHER)[0]


def _gradients(
    teacher: SSDLite,
    parts: Mapping[str, Part],
    images: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    found = run_parts(parts, {IMAGES: images.requires_grad_(True)})
    outputs = head_outputs(found, teacher.head.columns)
    direction = fisher_direction(outputs, teacher.config.head.activation, generator)
    names = [name for name in found if name != IMAGES]
    wanted = [found[name] for name in names]
    gradients = torch.autograd.grad(tuple(outputs), wanted, tuple(direction))
    return dict(zip(names, gradients, strict=True))
