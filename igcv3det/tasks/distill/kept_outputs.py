"""Outputs of the teacher and of frozen parts for fixed crops, kept on disk.

Where an image has a few fixed crops, what is not trained computes the same for them in every
epoch. It is kept in float16, one file an output; a crop's values are written when they are first
computed.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.atomic_files import replacing
from igcv3det.datasets.array_files import write_array_header
from igcv3det.tasks.half_floats import DTYPE, to_half

logger = logging.getLogger(__name__)

Halves = np.memmap[tuple[int, ...], np.dtype[np.float16]]

_DONE = "done"  # a byte for each crop, 1 where all its values are written
_FLUSHED_AT_ONCE = 32  # batches


class KeptOutputs:
    """Values for the crops of a run, which later epochs and runs read.

    Several processes may use one folder at once. After a power failure at most the last batches
    are computed again.

    Args:
        folder: of the files; made when something is written.
        count: crops.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count
        self._done = np.zeros(count, np.uint8)
        self._files: dict[str, tuple[int, Halves]] = {}
        self._unflushed: list[int] = []
        self._batches = 0
        if (folder / _DONE).is_file():
            self._done = np.fromfile(folder / _DONE, np.uint8)
            files = folder.glob("*.npy")
            self._files = {path.stem: _opened(path) for path in files}

    def has(self, crops: Sequence[int]) -> bool:
        """All values of these crops are kept."""
        return bool(self._done[list(crops)].all())

    def read(self, crops: Sequence[int]) -> dict[str, Tensor]:
        """Values [B, ...] in float32, by name, of crops that are kept."""
        rows = list(crops)
        return {
            name: torch.from_numpy(values[rows]).float()
            for name, (_, values) in self._files.items()
        }

    def write(self, crops: Sequence[int], outputs: Mapping[str, Tensor]) -> None:
        """Keeps values [B, ...] of crops, by name.

        Raises:
            OSError: the disk is too small for all crops.
        """
        halves = {name: to_half(value.detach().cpu()) for name, value in outputs.items()}
        if not self._files:
            self._allocate(halves)
        for name, values in halves.items():
            file, kept = self._files[name]
            size = kept[0].nbytes
            for crop, value in zip(crops, values, strict=True):
                os.pwrite(file, value.tobytes(), kept.offset + crop * size)
        self._unflushed += crops
        self._batches += 1
        if self._batches % _FLUSHED_AT_ONCE == 0:
            self.flush()

    def flush(self) -> None:
        """Marks what was written as done, once it is on the disk."""
        if not self._unflushed:
            return
        for file, _ in self._files.values():
            os.fsync(file)
        with (self.folder / _DONE).open("r+b") as done:
            for crop in self._unflushed:
                done.seek(crop)
                done.write(b"\1")
        self._done[self._unflushed] = 1
        self._unflushed = []

    def close(self) -> None:
        """Flushes; nothing can be written afterwards."""
        self.flush()
        for file, _ in self._files.values():
            os.close(file)
        self._files = {}

    def _allocate(self, values: Mapping[str, NDArray[np.float16]]) -> None:
        gigabytes = self.count * sum(value[0].nbytes for value in values.values()) / 1e9
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            if not (self.folder / _DONE).is_file():
                logger.info(
                    "outputs of %d crops are kept in %s: %.1f GB",
                    self.count,
                    self.folder,
                    gigabytes,
                )
                try:
                    for name, value in values.items():
                        _write_empty(self.folder / f"{name}.npy", (self.count, *value.shape[1:]))
                except OSError as error:
                    for path in self.folder.glob("*.npy"):
                        path.unlink()
                    raise OSError(
                        f"data.crops_per_image: {gigabytes:.1f} GB are needed: {error}; free the "
                        "disk, or choose another data.cache or fewer crops"
                    ) from error
                with replacing(self.folder / _DONE) as partial:
                    partial.write_bytes(bytes(self.count))
        self._files = {name: _opened(self.folder / f"{name}.npy") for name in values}


def fingerprint(networks: Mapping[str, nn.Module], *described: object) -> str:
    """A name for what networks compute: another one for other weights or descriptions."""
    digest = hashlib.sha256(repr(described).encode())
    for name, network in networks.items():
        for key, value in network.state_dict().items():
            digest.update(f"{name} {key} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _write_empty(path: Path, shape: tuple[int, ...]) -> None:
    with replacing(path, durable=False) as partial, partial.open("wb") as file:
        write_array_header(file, DTYPE, shape)
        file.flush()
        size = file.tell() + 2 * prod(shape)
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not in the middle
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _opened(path: Path) -> tuple[int, Halves]:
    """A descriptor to write with, and the values as they are read."""
    values: Halves = np.load(path, mmap_mode="r")
    return os.open(path, os.O_WRONLY), values
