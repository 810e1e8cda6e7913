"""Labelled images in a folder of class folders, or in a zip file of one.

The layout is ``train/CLASS/*.jpg`` beside ``val/CLASS/*.jpg`` or ``test/CLASS/*.jpg``; in a zip
file it may be inside other folders. Listing reads names only, so that errors of the layout are
found before any image is decoded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from igcv3det.datasets.image_cache import size_and_time
from igcv3det.io.folders import images_in
from igcv3det.io.images import EXTENSIONS, Image, decode_image, read_image

VALIDATION_SPLITS = ("val", "test")
ROOT_SPLIT = "."  # class folders directly under the root


class DataError(ValueError):
    """A data set that cannot be used; the message names the path and the reason."""


@dataclass(frozen=True)
class Split:
    """The labelled images of one split, not yet read.

    Attributes:
        root: folder or zip file.
        name: name of the split.
        names: names of the classes, sorted; label i is ``names[i]``.
        paths: paths of the images relative to the root.
        labels: labels of the images.
        fingerprint: differs for different content: a hash of names with the files' sizes and
            times, or with the checksums in a zip file.
    """

    root: Path
    name: str
    names: tuple[str, ...]
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.paths)

    def only(self, chosen: Sequence[int]) -> Split:
        """The images at these indices; the classes stay the same."""
        return dataclasses.replace(
            self,
            paths=tuple(self.paths[index] for index in chosen),
            labels=tuple(self.labels[index] for index in chosen),
        )

    def read(self, index: int) -> Image:
        """Decodes one image of a folder.

        Raises:
            ImageReadError: it cannot be read; the message names it.
        """
        return read_image(self.root / self.paths[index])

    def read_all(self) -> Iterator[Image]:
        """Decodes all images, in order.

        Raises:
            ImageReadError: one cannot be read; the message names it.
            DataError: the zip file is damaged.
        """
        if not is_zip(self.root):
            yield from (self.read(index) for index in range(len(self)))
            return
        with zipfile.ZipFile(self.root) as archive:
            for path in self.paths:
                try:
                    data = archive.read(path)
                except zipfile.BadZipFile as error:
                    raise DataError(f"{self.root}: {path}: {error}") from error
                yield decode_image(data, f"{self.root}: {path}")


def is_zip(root: Path) -> bool:
    """Whether the file name is that of a zip file."""
    return root.suffix.lower() == ".zip"


def list_split(root: Path, split: str) -> Split:
    """Lists the images of a split.

    Args:
        root: folder or zip file.
        split: name of the folder with the class folders; "." for the root itself.

    Raises:
        FileNotFoundError: ``root`` does not exist.
        DataError: no such split, fewer than two classes, or a class without images.
    """
    classes = _zip_classes(root, split) if is_zip(root) else _folder_classes(root, split)
    empty = sorted(name for name, files in classes.items() if not files)
    if empty:
        raise DataError(
            f"{root}: class {empty[0]!r} of split {split!r} has no images ({len(empty)} such "
            f"classes); images end in one of {sorted(EXTENSIONS)}"
        )
    if len(classes) < 2:
        raise DataError(
            f"{root}: split {split!r} has {len(classes)} class folders; at least 2 are needed"
        )
    names = tuple(sorted(classes))
    entries = [(file, label) for label, name in enumerate(names) for file in sorted(classes[name])]
    content = "\n".join(f"{path} {state}" for (path, state), _ in entries)
    return Split(
        root,
        split,
        names,
        tuple(path for (path, _), _ in entries),
        tuple(label for _, label in entries),
        hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest(),
    )


def validation_split(root: Path, wanted: str | None = None) -> str:
    """The split to validate on: ``wanted`` if given, else "val", else "test".

    Raises:
        FileNotFoundError: ``root`` does not exist.
        DataError: there is neither "val" nor "test".
    """
    if wanted is not None:
        return wanted
    splits = _splits(root)
    for name in VALIDATION_SPLITS:
        if name in splits:
            return name
    raise DataError(
        f"{root}: has neither a 'val' nor a 'test' split, but {sorted(splits)}; name the split"
    )


def require_same_classes(one: Split, other: Split) -> None:
    """Checks that two splits have the same classes.

    Raises:
        DataError: one has a class that the other lacks.
    """
    for has, lacks in ((one, other), (other, one)):
        extra = sorted(set(has.names) - set(lacks.names))
        if extra:
            raise DataError(
                f"{has.root}: split {lacks.name!r} lacks {len(extra)} classes of split "
                f"{has.name!r}: {extra[:5]}"
            )


Files = list[tuple[str, str]]
"""(path relative to the root, text that changes with the content)."""
Entries = list[tuple[tuple[str, ...], zipfile.ZipInfo]]
"""(parts of the path, entry); the path of a folder ends in an empty part."""


def _splits(root: Path) -> set[str]:
    if is_zip(root):
        return _zip_splits(_zip_entries(root))
    return {path.name for path in _folders(root)}


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images")
    return sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _folder_classes(root: Path, split: str) -> dict[str, Files]:
    splits = [path.name for path in _folders(root)]
    if split != ROOT_SPLIT and split not in splits:
        raise DataError(f"{root}: has no split {split!r}, but {splits}")
    classes: dict[str, Files] = {}
    for folder in _folders(root / split):
        classes[folder.name] = [
            (str(path.relative_to(root)), "{} {}".format(*size_and_time(path)))
            for path in images_in(folder)
        ]
    return classes


def _zip_entries(root: Path) -> Entries:
    if not root.is_file():
        raise FileNotFoundError(f"{root}: no such zip file")
    try:
        with zipfile.ZipFile(root) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise DataError(f"{root}: not a readable zip file ({error})") from error
    return [((*PurePosixPath(e.filename).parts, *([""] if e.is_dir() else [])), e) for e in entries]


def _zip_splits(entries: Entries) -> set[str]:
    return {parts[-3] for parts, entry in entries if len(parts) >= 3 and not entry.is_dir()}


def _zip_classes(root: Path, split: str) -> dict[str, Files]:
    entries = [(parts, entry) for parts, entry in _zip_entries(root) if len(parts) >= 3]
    splits = _zip_splits(entries)
    if split not in splits:
        raise DataError(f"{root}: has no split {split!r}, but {sorted(splits)}")
    parents = {parts[:-3] for parts, _ in entries if parts[-3] == split}
    if len(parents) > 1:
        folders = sorted("/".join(parts) or "." for parts in parents)
        raise DataError(f"{root}: has split {split!r} in several folders: {folders}")
    classes: dict[str, Files] = {}
    for parts, entry in entries:
        if parts[-3] == split:
            files = classes.setdefault(parts[-2], [])
            if Path(parts[-1]).suffix.lower() in EXTENSIONS:
                files.append((entry.filename, f"{entry.file_size} {entry.CRC:08x}"))
    return classes
