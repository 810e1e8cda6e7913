"""The teacher's feature maps of some images on disk, and how much its outputs feel their errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from igcv3det.atomic_files import atomic_write, replacing
from igcv3det.datasets.array_files import mapped_array, write_array_header
from igcv3det.tasks.compress.least_squares import cells
from igcv3det.tasks.compress.parts import IMAGES, Part, run_parts
from igcv3det.tasks.compress.teacher import Pixels, Teacher
from igcv3det.tasks.compress.work_folder import damaged, read_mapping
from igcv3det.tasks.half_floats import DTYPE, to_half
from igcv3det.weight_files import read_safetensors, write_safetensors

BATCH = 8  # images
FISHER_IMAGES = 96
_DONE, _FISHER = "features.json", "fisher.safetensors"


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

    Raises:
        FileNotFoundError: they are not complete.
        ValueError: a damaged file; the message names it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        count = read_mapping(folder / _DONE).get("images")
        if not isinstance(count, int):
            raise damaged(folder / _DONE, "no number of images")
        self.count = count

    def read(self, name: str) -> NDArray[np.float16]:
        """[N, C, H, W] of a value, mapped into memory.

        Raises:
            FileNotFoundError, ValueError: its file is missing or damaged; the message names it.
        """
        path = self.folder / f"{name}.npy"
        try:
            return mapped_array(path)
        except ValueError as error:
            raise damaged(path, str(error)) from error


def network_inputs(teacher: Teacher, pixels: Pixels, rows: Sequence[int]) -> Iterator[Tensor]:
    """Normalised images [B, 3, H, W] of some rows of ``pixels`` [N, H, W, 3], in batches."""
    for start in range(0, len(rows), BATCH):
        yield teacher.inputs(pixels[list(rows[start : start + BATCH])])


@torch.no_grad()
def write_features(teacher: Teacher, pixels: Pixels, rows: Sequence[int], folder: Path) -> None:
    """Writes the values of all parts of a teacher; does nothing where all are complete.

    Args:
        teacher: the network.
        pixels: [N, H, W, 3] uint8 RGB; every second image that is taken is mirrored.
        rows: the images to take.
        folder: for the files.

    Raises:
        OSError: the disk is full.
    """
    parts = teacher.parts()
    names = [IMAGES, *(name for part in parts.values() for name in part.outputs)]
    if _are_complete(folder, names, len(rows)):
        return
    files: dict[str, BinaryIO] = {}
    with ExitStack() as stack:
        for start in range(0, len(rows), BATCH):
            taken = np.array(pixels[list(rows[start : start + BATCH])])
            taken[1::2] = taken[1::2, :, ::-1]
            for name, value in run_parts(parts, {IMAGES: teacher.inputs(taken)}).items():
                if name not in files:
                    # written, not mapped: a full disk is an error then, not the end of the process
                    partial = stack.enter_context(replacing(folder / f"{name}.npy", durable=False))
                    files[name] = stack.enter_context(partial.open("wb"))
                    write_array_header(files[name], DTYPE, (len(rows), *value.shape[1:]))
                files[name].write(to_half(value).tobytes())
    atomic_write(folder / _DONE, json.dumps({"images": len(rows)}))


def _are_complete(folder: Path, names: Sequence[str], count: int) -> bool:
    try:
        store = FeatureStore(folder)
        return store.count == count and all(len(store.read(name)) == count for name in names)
    except (FileNotFoundError, ValueError):
        return False


def write_fisher(
    teacher: Teacher, pixels: Pixels, rows: Sequence[int], folder: Path, seed: int = 0
) -> None:
    """Writes the Fisher information of the outputs about each value, unless it is there.

    This is the factor of K-FAC (Martens and Grosse, arXiv 1503.05671) that belongs to the outputs
    of a layer: what an error of a feature map does to the outputs, to second order.

    Args:
        teacher: the network.
        pixels: [N, H, W, 3] uint8 RGB.
        rows: the images to use.
        folder: for the file.
        seed: of the random directions.
    """
    path = folder / _FISHER
    with suppress(ValueError):  # damaged: made again
        if path.is_file() and read_fisher(folder):
            return
    parts = teacher.parts()
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
    teacher: Teacher,
    parts: Mapping[str, Part],
    images: Tensor,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    found = run_parts(parts, {IMAGES: images.requires_grad_(True)})
    names = [name for name in found if name != IMAGES]
    probe = teacher.fisher_probe(found, generator)
    gradients = torch.autograd.grad(probe, [found[name] for name in names])
    return dict(zip(names, gradients, strict=True))
