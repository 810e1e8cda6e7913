"""Data sets of images and masks: where each split's files are.

Two layouts are recognised: ``SPLIT/*.jpg`` beside ``SPLIT_labels/*.png``, where a mask has the name
of its image, also in folders below; and Pascal VOC's ``JPEGImages``, ``SegmentationClass`` and
``ImageSets/Segmentation``.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from igcv3det.datasets.formats.folders import (
    ImagesByStem,
    files_below,
    images_below,
    listed_names,
    split_name,
    without_ending,
)
from igcv3det.tasks.segment.class_tables import (
    ClassTable,
    find_class_table,
    read_class_table,
)

LABELS_SUFFIX = "_labels"
_LOSSY = (".jpg", ".jpeg", ".webp")
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff"})
_VOC_IMAGES, _VOC_LISTS = "JPEGImages", ("ImageSets", "Segmentation")
_VOC_MASKS = ("SegmentationClass", "SegmentationClassPNG")  # the second is labelme's


class MaskedImage(NamedTuple):
    """An image and the mask of its pixels' labels."""

    image: Path
    mask: Path
    table: ClassTable | None = None
    """Labels of the colours of an RGB mask."""


class MaskSource:
    """A data set of images and masks.

    Args:
        root: its folder.
        classes: file with the names of the classes, and their colours where masks are RGB; None
            looks for one in the folder.

    Attributes:
        table: the classes of that file; None where there is none.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: it has neither layout, or the file of the classes cannot be used.
    """

    def __init__(self, root: str | Path, classes: str | Path | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder")
        self._voc_masks = next((p for n in _VOC_MASKS if (p := self.root / n).is_dir()), None)
        if self._voc_masks is None and not self._folders():
            raise ValueError(
                f"{root}: no data set of masks: expected SPLIT/ beside SPLIT{LABELS_SUFFIX}/, or "
                f"Pascal VOC's {_VOC_MASKS[0]}/"
            )

        file = None if classes is None else Path(classes)
        self.table = find_class_table(self.root) if file is None else read_class_table(file)

    @property
    def description(self) -> str:
        """The layout, in words."""
        if self._voc_masks is not None:
            return f"Pascal VOC ({self._voc_masks.name}/)"
        first = self._folders()[0]
        return f"images and masks ({first.name}/, {first.name}{LABELS_SUFFIX}/)"

    @property
    def splits(self) -> list[str]:
        """Names of the splits, as the data set has them."""
        if self._voc_masks is None:
            return [folder.name for folder in self._folders()]
        return sorted(path.stem for path in self.root.joinpath(*_VOC_LISTS).glob("*.txt"))

    def has_split(self, name: str) -> bool:
        """Whether there is a split of this name, or of another name for it (valid: val)."""
        return self._find(name) is not None

    def read(self, name: str) -> list[MaskedImage]:
        """The images of a split and their masks, by name.

        Raises:
            ValueError: no such split, no image in it, or an image without a mask.
        """
        found = self._find(name)
        if found is None:
            has = ", ".join(self.splits) or "none"
            raise ValueError(f"{self.root}: has no split {name!r}; its splits: {has}")
        samples = self._read_folder(found) if self._voc_masks is None else self._read_list(found)
        if not samples:
            raise ValueError(f"{self.root}: split {found} has no images")
        missing = [sample for sample in samples if not sample.mask.is_file()]
        if missing:
            more = f", and {len(missing) - 1} more like it" if len(missing) > 1 else ""
            image, mask, _ = missing[0]
            if lossy := next((p for s in _LOSSY if (p := mask.with_suffix(s)).is_file()), None):
                raise ValueError(
                    f"{lossy}: a mask compressed with loss, which changes labels; save masks as "
                    f"PNG{more}"
                )
            raise ValueError(f"{image}: has no mask: {mask}: no such file{more}")
        return samples

    def _folders(self) -> list[Path]:
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        return [p for p in folders if p.with_name(f"{p.name}{LABELS_SUFFIX}").is_dir()]

    def _find(self, name: str) -> str | None:
        """The data set's own name of a split; the exact one has precedence.

        Raises:
            ValueError: several are meant (train1, train2).
        """
        wanted = split_name(name)
        same = [own for own in self.splits if wanted is not None and split_name(own) == wanted]
        if name in self.splits:
            return name
        if len(same) > 1:
            raise ValueError(f"{self.root}: several splits for {name}: {', '.join(same)}: name one")
        return same[0] if same else None

    def _read_folder(self, name: str) -> list[MaskedImage]:
        folder = self.root / name
        masks = self.root / f"{name}{LABELS_SUFFIX}"
        by_stem = {without_ending(mask): mask for mask in files_below(masks, MASK_SUFFIXES)}
        return [
            MaskedImage(folder / image, masks / by_stem.get(stem, f"{stem}.png"), self.table)
            for image in images_below(folder)
            for stem in (without_ending(image),)
        ]

    def _read_list(self, name: str) -> list[MaskedImage]:
        assert self._voc_masks is not None
        listed = self.root.joinpath(*_VOC_LISTS, f"{name}.txt")
        folder = self.root / _VOC_IMAGES
        images = ImagesByStem(folder) if folder.is_dir() else None
        samples = []
        for number, line in listed_names(listed):
            stem = line.split()[0]
            image = images.find(stem, None) if images else None
            if image is None:
                raise ValueError(f"{listed}: line {number}: no image {stem!r} in {folder}")
            samples.append(MaskedImage(folder / image, self._voc_masks / f"{stem}.png", self.table))
        return samples


def validation_split(source: MaskSource) -> str:
    """The split to validate on: val, else test.

    Raises:
        ValueError: the data set has neither.
    """
    for name in ("val", "test"):
        if source.has_split(name):
            return name
    raise ValueError(f"{source.root}: has neither a split val nor test, only {source.splits}")
