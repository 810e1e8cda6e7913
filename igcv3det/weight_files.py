"""Files of weights, whatever network they belong to: safetensors and what ``torch.save`` writes."""

from __future__ import annotations

import hashlib
import pickle
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from igcv3det.atomic_files import atomic_write
from igcv3det.description import DESCRIPTION, parse_description
from igcv3det.export_formats import EXPORTED_SUFFIXES, FORMATS

# Of pickled bytes that are damaged; besides OSError
_UNPICKLING_ERRORS = (
    *(pickle.UnpicklingError, EOFError, RuntimeError, ValueError, LookupError, TypeError),
    *(AttributeError, AssertionError, OverflowError, MemoryError, struct.error),
)
CHECKSUM = "weights_sha256"
"""Key of the metadata; see `checksum`."""


def write_safetensors(path: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes weights and texts, as a whole.

    safetensors' own ``save_file`` makes files that only their owner may read.

    Raises:
        OSError: it cannot be written.
    """
    atomic_write(path, save(weights, metadata))


def read_described(path: Path, prefix: str, kind: str) -> tuple[dict[str, Tensor], Any]:
    """The weights of a trained file and its description, unchecked.

    Args:
        path: ``*.safetensors`` or Lightning's ``*.ckpt``.
        prefix: of the weights' names in a checkpoint.
        kind: what the file should hold, for the message.

    Raises:
        ValueError: another ending, or not readable as what the ending says.
    """
    if path.suffix == ".safetensors":
        weights, metadata = read_safetensors(path)
        expected = metadata.get(CHECKSUM)
        if expected is not None and (found := checksum(weights)) != expected:
            raise ValueError(f"{path}: damaged: {CHECKSUM} is {found}, not {expected}")
        return weights, parse_description(metadata.get(DESCRIPTION), path)
    if path.suffix == ".ckpt":
        checkpoint = read_torch(path)
        weights = weights_under(state_dict(checkpoint, path), prefix)
        return weights, checkpoint.get(DESCRIPTION)
    raise _wrong_kind(path, kind)


def parse_file_description(path: Path, kind: str) -> Any:  # noqa: ANN401
    """The description of a trained file, unchecked; its weights are not read.

    Args:
        path: ``*.safetensors`` or Lightning's ``*.ckpt``.
        kind: what the file should hold, for the message.

    Raises:
        ValueError: another ending, or not readable as what the ending says.
    """
    if path.suffix == ".safetensors":
        return parse_description(_texts(path).get(DESCRIPTION), path)
    if path.suffix == ".ckpt":
        return read_torch(path, mmap=True).get(DESCRIPTION)
    raise _wrong_kind(path, kind)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts that `save_detector` was given for this safetensors file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a safetensors file.
    """
    metadata = _texts(existing_file(path))
    metadata.pop(DESCRIPTION, None)
    return metadata


def checksum(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous().cpu()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def existing_file(path: str | Path) -> Path:
    """The path, if it is a file.

    Raises:
        FileNotFoundError: there is no such file.
        IsADirectoryError: it is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: a folder, not a file of weights")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    return path


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata of a safetensors file.

    Raises:
        ValueError: it is not readable as one.
    """
    with _opened(path) as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return weights, dict(file.metadata() or {})


def read_torch(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """The mapping that ``torch.save`` wrote; only plain values and tensors are read.

    Args:
        path: of the file.
        mmap: read tensors only when they are used; for those who want the plain values.

    Raises:
        ValueError: the file holds none.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except _UNPICKLING_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends early"
        raise ValueError(f"{path}: not a readable checkpoint ({reason})") from error
    except OSError as error:
        if error.filename is not None:
            raise
        # a file that is cut off cannot be mapped into memory, and is not named
        raise ValueError(f"{path}: not a readable checkpoint ({error.strerror})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a mapping of weights")
    return content


def state_dict(
    content: dict[str, Any], path: Path, default: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The mapping under ``state_dict`` in a checkpoint.

    Args:
        content: of the checkpoint.
        path: the file, for messages.
        default: where there is none; None is an empty mapping.

    Raises:
        ValueError: it is no mapping of names.
    """
    found = content.get("state_dict", {} if default is None else default)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError(f"{path}: its weights are not a mapping of names to tensors")
    return found


def weights_under(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The weights whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}


def _texts(path: Path) -> dict[str, str]:
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file to read from; its errors, while it is read too, name the file."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def _wrong_kind(path: Path, kind: str) -> ValueError:
    if path.suffix in EXPORTED_SUFFIXES:
        return ValueError(
            f"{path}: an exported file has no PyTorch weights; Predictor.load and the commands "
            "predict, eval, compare and benchmark take it"
        )
    graphs = [own.suffix for own in FORMATS.values() if own.weights_suffix == path.suffix]
    if graphs:
        beside = [path.with_suffix(suffix) for suffix in graphs]
        name = next((own.name for own in beside if own.is_file()), f"{' or '.join(graphs)} file")
        return ValueError(f"{path}: the weights of an exported detector; give its {name}")
    return ValueError(
        f"{path}: a {kind} is a .safetensors, .ckpt or .yaml file, not {path.suffix!r}"
    )
