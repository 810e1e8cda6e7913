"""Folders and zip files of class folders with generated images."""

import zipfile

import numpy as np

from igcv3det.io.images import write_image

CLASSES = ("cat", "dog", "newt")


def write_folder(root, splits=("train", "test"), classes=CLASSES, per_class=4, size=(32, 32)):
    """root/SPLIT/CLASS/0.png ...; images are noise around their class's mean grey."""
    rng = np.random.default_rng(0)
    for split in splits:
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(per_class):
                noise = rng.integers(0, 40, (*size, 3)) + 60 * label
                write_image(folder / f"{index}.png", noise.astype(np.uint8))
    return root


def zip_folder(folder, target, prefix="set/"):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, f"{prefix}{path.relative_to(folder).as_posix()}")
    return target
