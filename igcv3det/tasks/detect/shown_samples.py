"""Training samples drawn with their boxes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from igcv3det.config import AugmentConfig, PreprocessConfig, config_from_dict
from igcv3det.config.values import IMAGE_SIDES, RangeError, check_interval
from igcv3det.engine.sampler import EpochBatches
from igcv3det.engine.validation_images import to_image
from igcv3det.io.drawing import GREY, draw_boxes, label_colour, tile_images
from igcv3det.structures import Target
from igcv3det.tasks.detect.datamodule import CocoDataModule

_AUGMENT = "data.augment."
_TAKEN = ("data.augmentation", "data.mosaic", "data.format")


def draw_samples(
    data: str | Path, values: Mapping[str, Any], count: int = 16, *, protect: Path | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """The first samples of a training.

    Args:
        data: the data set, in any format.
        values: options of the training by dotted key; those that do not concern the images of the
            data set are passed over.
        count: samples; fewer if the training data has fewer images.
        protect: a file that must not be an image of the data set.

    Returns:
        All samples in one image, uint8 [H, W, 3], and lines that say what they are.

    Raises:
        FileNotFoundError, ValueError: data set or options cannot be used.
    """
    size = int(values["model.detector.image_size"])
    check_interval(size, IMAGE_SIDES, "model.detector.image_size")
    augment = _augment(values)
    chosen = {key.removeprefix("data."): values[key] for key in _TAKEN if key in values}
    preprocess = PreprocessConfig()
    module = CocoDataModule(
        data,
        **chosen,
        augment=augment,
        image_size=size,
        preprocess=preprocess,
        drop_empty_classes=bool(values.get("data.drop_empty_classes", False)),
        seed=int(values.get("seed_everything", 0)),
    )
    if protect is not None and protect.exists():
        _require_other_file(protect, module)
    dataset, names = module.train_dataset, module.train_store.categories.names
    count = min(count, len(dataset))
    (keys,) = list(EpochBatches(len(dataset), len(dataset), shuffle=True, seed=module.seed))
    samples = [dataset[key] for key in keys[:count]]
    drawn = [
        _drawn(to_image(image, preprocess.mean, preprocess.std), target, names)
        for image, target in samples
    ]
    boxes = sum(len(target.boxes) for _, target in samples)
    changes_name = module.augmentation or f"preset {augment.preset}"
    lines = [
        f"{count} of {len(dataset)} training images at {size} px, {boxes} boxes",
        f"changes: {changes_name}, mosaic {module.mosaic:g}, seed {module.seed}",
    ]
    return tile_images(drawn, math.ceil(math.sqrt(count))), lines


def _augment(values: Mapping[str, Any]) -> AugmentConfig:
    changes = {
        key.removeprefix(_AUGMENT): value
        for key, value in values.items()
        if key.startswith(_AUGMENT)
    }
    try:
        return config_from_dict(AugmentConfig, changes, _AUGMENT.rstrip("."))
    except ValueError as error:
        raise RangeError(str(error)) from error.__cause__


def _require_other_file(file: Path, module: CocoDataModule) -> None:
    """Raises ValueError where a file is an image of a data set."""
    for record, folder in (module.splits.train, module.splits.val):
        names = (entry.file_name for entry in record.images)
        paths = (folder / name for name in names if Path(name).name == file.name)
        if any(path.exists() and path.samefile(file) for path in paths):
            raise ValueError(f"{file} is an image of the data set: name another file")


def _drawn(image: NDArray[np.uint8], target: Target, names: tuple[str, ...]) -> NDArray[np.uint8]:
    labels = target.labels.tolist()
    texts = [*(names[label - 1] for label in labels), *["crowd"] * len(target.crowds)]
    colours = [*map(label_colour, labels), *[GREY] * len(target.crowds)]
    return draw_boxes(image, torch.cat([target.boxes, target.crowds]), texts, colours)
