"""Records of large data sets that were read before.

Formats with a file an image take a minute for a hundred thousand of them. Their records are kept in
the user's cache folder, under a fingerprint of all files' names, sizes and times: a file that was
changed, added or removed makes the record stale, and it is read anew. Only what lies below the data
set's folder is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from igcv3det.atomic_files import replacing
from igcv3det.datasets.formats.folders import Splits, is_below, walk
from igcv3det.datasets.issues import DatasetIssue
from igcv3det.datasets.record import AnnotationRecord, ImageTable, Texts
from igcv3det.datasets.subsets import SplitRecord
from igcv3det.structures import Categories

logger = logging.getLogger(__name__)

FOLDER = "IGCV3DET_CACHE"
"""Environment variable: where the records are kept; empty keeps none."""
MIN_FILES = 5000
"""Smaller data sets are read in about a second."""
_VERSION = 6
_DAMAGED = (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)
FILE_AN_IMAGE = frozenset({"yolo", "voc", "labelme"})
"""Formats with a label file an image."""
ARRAYS = (
    *("image_rows", "labels", "boxes", "areas", "is_crowd", "scores"),
    *("annotation_ids", "positions"),
)
"""Attributes of `AnnotationRecord` that are arrays."""


def cached_splits(data_format: str, path: Path, splits: Splits) -> Splits:
    """The readers of a data set's splits, which take their record from the cache if it is current.

    Args:
        data_format: of the data set; formats with few files are not cached.
        path: of the data set.
        splits: how to read each, from files below the folder of the data set.
    """
    folder = _folder()
    if folder is None or data_format not in FILE_AN_IMAGE:
        return splits
    root = path if path.is_dir() else path.parent
    count, fingerprint = _fingerprint(root)
    if count < MIN_FILES:
        return splits
    text = f"{data_format} {path.resolve()}".encode("utf-8", "surrogatepass")
    key = hashlib.sha256(text).hexdigest()[:16]
    return {
        name: partial(_read, root, folder / f"{key}-{name}.npz", f"{_VERSION} {fingerprint}", read)
        for name, read in splits.items()
    }


def _folder() -> Path | None:
    given = os.environ.get(FOLDER)
    if given is not None:
        return Path(given) if given else None
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "igcv3det" / "annotations"


def _fingerprint(root: Path) -> tuple[int, str]:
    """Number of the files below a folder, and a hash of their names, sizes and times."""
    digest, count = hashlib.sha256(), 0
    for place, names in walk(root):
        for name in names:
            path = f"{place}/{name}"
            status = os.stat(path)  # noqa: PTH116 (half the time of a Path)
            count += 1
            text = f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0"
            digest.update(text.encode("utf-8", "surrogatepass"))
    return count, digest.hexdigest()


def _read(root: Path, file: Path, fingerprint: str, read: Callable[[], SplitRecord]) -> SplitRecord:
    if file.is_file():
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                if str(arrays["fingerprint"]) == fingerprint:
                    return _unpacked(arrays)
            logger.info("%s: files have changed since it was read: reading them anew", file)
        except _DAMAGED as error:
            logger.warning("%s is damaged (%s): reading the data set anew", file, error)
    split = read()
    if not is_below(split.images, root):  # a list names images that are elsewhere
        return split
    try:
        with replacing(file, durable=False) as new, new.open("wb") as output:
            np.savez(output, fingerprint=np.array(fingerprint), **_packed(split))
    except OSError as error:
        logger.warning("%s: the record is not kept: %s", file, error)
    return split


def _packed(split: SplitRecord) -> dict[str, Any]:
    record, table = split.record, split.record.images
    description = {
        "path": str(record.path),
        "images": str(split.images),
        "ids": record.categories.ids,
        "names": record.categories.names,
        "issues": record.issues,
        "position_text": record.position_text,
    }
    text = json.dumps(description).encode()
    return {
        **{name: getattr(record, name) for name in ARRAYS},
        "image_ids": table.ids,
        "sizes": table.sizes,
        "is_upright": table.is_upright,
        **_packed_texts("image_names", table.names),
        **_packed_texts("label_files", record.label_files),
        "description": np.frombuffer(text, np.uint8),
    }


def _unpacked(arrays: Mapping[str, Any]) -> SplitRecord:
    description = json.loads(arrays["description"].tobytes())
    record = AnnotationRecord(
        path=Path(description["path"]),
        categories=Categories(tuple(description["ids"]), tuple(description["names"])),
        images=ImageTable(
            arrays["image_ids"],
            arrays["sizes"],
            _unpacked_texts("image_names", arrays),
            arrays["is_upright"],
        ),
        **{name: arrays[name] for name in ARRAYS},
        issues=tuple(DatasetIssue(*issue) for issue in description["issues"]),
        label_files=_unpacked_texts("label_files", arrays),
        position_text=description["position_text"],
    )
    return SplitRecord(record, Path(description["images"]))


def _packed_texts(name: str, texts: Texts) -> dict[str, Any]:
    return {name: np.frombuffer(texts.data, np.uint8), f"{name}_starts": texts.starts}


def _unpacked_texts(name: str, arrays: Mapping[str, Any]) -> Texts:
    return Texts(arrays[name].tobytes(), arrays[f"{name}_starts"])
