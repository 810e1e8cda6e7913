"""A small data set in every layout: whole pixels, and sides that are powers of two.

Shares of such sides have exact decimal texts, so that YOLO's boxes are those of the others bit by
bit.
"""

from pathlib import Path
from typing import NamedTuple

from coco_files import write_noise

from research.layouts import WRITERS, Box, ImageWithBoxes

NAMES = ("cat", "dog", "zebra")
SPLITS = {
    "train": [
        ("a", 64, 32, [Box("cat", 2, 3, 20, 21), Box("zebra", 30, 4, 16, 16)]),
        ("b", 32, 64, [Box("dog", 0, 0, 32, 64)]),
        ("c", 128, 64, []),
        ("d", 64, 64, [Box("dog", 5, 6, 17, 40), Box("dog", 9, 9, 31, 9)]),
    ],
    "val": [
        ("e", 64, 64, [Box("cat", 1, 2, 33, 44), Box("dog", 40, 40, 24, 24)]),
        ("f", 128, 32, [Box("zebra", 64, 0, 64, 32)]),
    ],
}
LAYOUTS = tuple(WRITERS)


class Layout(NamedTuple):
    """A data set on the disk and its images, by split."""

    folder: Path
    splits: dict[str, list[ImageWithBoxes]]


def write_layout(folder, layout):
    """Writes the data set in a layout."""
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    splits = {}
    for split, images in SPLITS.items():
        splits[split] = []
        for seed, (stem, width, height, boxes) in enumerate(images):
            path = source / f"{stem}.png"
            if not path.exists():
                write_noise(path, height, width, seed)
            splits[split].append(ImageWithBoxes(path, width, height, boxes))
    place = folder / layout
    place.mkdir()
    WRITERS[layout](place, splits, NAMES)
    return Layout(place, splits)
