"""Outputs of the teacher and of frozen parts for fixed crops, kept on disk.

Where an image has a few fixed crops, what is not trained computes the same for them in every
epoch. It is kept in float16, one file an output; a crop's values are written when they are first
computed.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.atomic_files import replacing
from igcv3det.datasets.array_files import mapped_array, write_array_header
from igcv3det.tasks.half_floats import DTYPE, to_half

logger = logging.getLogger(__name__)

_DONE = "done"  # a byte for each crop, 1 where all its values are written
_FLUSHED_AT_ONCE = 32  # batches


class _File(NamedTuple):
    """An open file of one output, for one thread.

    Attributes:
        file: to read and write with; without a buffer.
        shape: of a crop's value.
        start: bytes before the first crop's value.
        size: bytes of a crop's value.
    """

    file: io.FileIO
    shape: tuple[int, ...]
    start: int
    size: int

    @classmethod
    def opened(cls, path: Path) -> _File:
        """The file, whose header says what it holds."""
        values = mapped_array(path)
        size = values.itemsize * prod(values.shape[1:])
        return cls(io.FileIO(path, "r+"), values.shape[1:], values.offset, size)

    def read(self, crops: Sequence[int]) -> NDArray[np.float16]:
        """Values [B, ...] of crops."""
        # a read a crop: a map of the file reads page by page what the system does not hold
        found = np.empty((len(crops), *self.shape), np.float16)
        for crop, row in zip(crops, found, strict=True):
            self.file.seek(self.start + crop * self.size)
            self.file.readinto(row)
        return found

    def is_at(self, path: Path) -> bool:
        """Whether this is still the file of that name.

        Raises:
            FileNotFoundError: there is none.
        """
        return os.path.samestat(path.stat(), os.fstat(self.file.fileno()))

    def write(self, crop: int, value: NDArray[np.float16]) -> None:
        """Stores the value of a crop."""
        self.file.seek(self.start + crop * self.size)
        self.file.write(value.tobytes())


class KeptOutputs:
    """Values for the crops of a run, which later epochs and runs read.

    Several processes may use one folder at once. After a power failure at most the last batches
    are computed again. The folder may be deleted at any time: a run that uses it keeps nothing
    more, and one that finds a part of it writes all anew.

    Args:
        folder: of the files; made when something is written.
        count: crops.
        names: of a crop's values.
    """

    def __init__(self, folder: Path, count: int, names: Sequence[str]) -> None:
        self.folder, self.count, self.names = folder, count, tuple(names)
        self._done = np.zeros(count, np.uint8)
        self._files: dict[str, _File] = {}
        self._unflushed: list[int] = []
        self._batches = 0
        self._is_deleted = False
        if self._is_whole():
            self._done = np.fromfile(folder / _DONE, np.uint8)
            self._files = self._opened()

    def has(self, crops: Sequence[int]) -> bool:
        """All values of these crops are kept."""
        return bool(self._done[list(crops)].all())

    def read(self, crops: Sequence[int]) -> dict[str, Tensor]:
        """Values [B, ...] in float32, by name, of crops that are kept."""
        return {
            name: torch.from_numpy(file.read(crops)).float() for name, file in self._files.items()
        }

    def write(self, crops: Sequence[int], outputs: Mapping[str, Tensor]) -> None:
        """Keeps values [B, ...] of crops, by name.

        Raises:
            OSError: the disk is too small for all crops.
        """
        if self._is_deleted:
            return
        halves = {name: to_half(value.detach().cpu()) for name, value in outputs.items()}
        if not self._files:
            self._allocate(halves)
        for name, values in halves.items():
            for crop, value in zip(crops, values, strict=True):
                self._files[name].write(crop, value)
        self._unflushed += crops
        self._batches += 1
        if self._batches % _FLUSHED_AT_ONCE == 0:
            self.flush()

    def flush(self) -> None:
        """Marks what was written as done, once it is on the disk."""
        if not self._unflushed:
            return
        for file in self._files.values():
            os.fsync(file.file.fileno())
        try:
            # marks beside other files than the open ones would be false
            self._is_deleted = not all(
                file.is_at(self.folder / f"{name}.npy") for name, file in self._files.items()
            )
            if not self._is_deleted:
                self._mark()
        except FileNotFoundError:
            self._is_deleted = True
        if self._is_deleted:
            logger.warning("%s: files were deleted: this run keeps no more outputs", self.folder)
        self._unflushed = []

    def close(self) -> None:
        """Flushes; nothing can be written afterwards."""
        self.flush()
        for file in self._files.values():
            file.file.close()
        self._files = {}

    def _allocate(self, values: Mapping[str, NDArray[np.float16]]) -> None:
        gigabytes = self.count * sum(value[0].nbytes for value in values.values()) / 1e9
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "lock"):
            if not self._is_whole():
                # first, so that nobody takes the new files for what the old marks say
                (self.folder / _DONE).unlink(missing_ok=True)
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
        self._files = self._opened()

    def _mark(self) -> None:
        with (self.folder / _DONE).open("r+b") as done:
            for crop in self._unflushed:
                done.seek(crop)
                done.write(b"\1")
        self._done[self._unflushed] = 1

    def _is_whole(self) -> bool:
        """Whether the marks and the files of all values are there and have their lengths."""
        try:
            if (self.folder / _DONE).stat().st_size != self.count:
                return False
            values = [mapped_array(self.folder / f"{name}.npy") for name in self.names]
        except (OSError, ValueError):
            return False
        return all(len(own) == self.count and own.dtype == DTYPE for own in values)

    def _opened(self) -> dict[str, _File]:
        return {name: _File.opened(self.folder / f"{name}.npy") for name in self.names}


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
