"""A small synthetic detection data set in COCO's format, for first runs, tests and the demo.

Six classes that differ in outline only, rotated, squeezed, textured, partly occluded by one another
and cut by the image border, among clutter without a class. Figures on this data set say nothing
about figures on photographs.

Boxes are amodal: they contain the whole outline with its occluded parts, clipped to the image.
Annotations follow from NumPy's generator and plain arithmetic, so a seed gives the same ones on
every machine; pixels are the same for the same version of OpenCV.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from igcv3det.shapes.outlines import Points, outline, outline_box, sample, visible_share
from igcv3det.shapes.painting import paint_scene

logger = logging.getLogger(__name__)

CATEGORIES = {3: "disc", 7: "triangle", 8: "square", 12: "star", 21: "cross", 40: "ring"}
"""Id to name; the ids have gaps as COCO's do, so that tests find code that expects none."""

_DESCRIPTION = "igcv3det shapes, synthetic"
_MIN_VISIBLE = 0.4
"""An object that would leave less than this share of any object visible is not placed."""
_MIN_SIDE, _MAX_SIDE = 0.25, 0.75
"""Size of an outline before squeezing, as a share of the image's shorter side."""
_MAX_TURN = np.pi / 6
"""Largest rotation in either direction, radians."""
_EMPTY_SHARE = 0.04
"""Share of images without objects."""
_MAX_OBJECTS = 4


@dataclass(frozen=True)
class _Parameters:
    """Parameters of a data set; stored in its files, to recognise a complete one."""

    version: int
    seed: int
    train: int
    val: int
    image_size: int


def write_shapes(
    root: str | Path,
    train: int = 4000,
    val: int = 200,
    image_size: int = 224,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Writes the data set, unless ``root`` already holds it.

    The layout is COCO's: ``train2017``, ``val2017`` and ``annotations/instances_*2017.json``.

    Args:
        root: folder to write to; created if missing.
        train: number of training images.
        val: number of validation images.
        image_size: longer side of the images, pixels; the shorter side is the same or three
            quarters of it.
        seed: of annotations and pixels.
        progress: called with the number of images written and that of all, split by split.

    Returns:
        ``root`` as a path.

    Raises:
        ValueError: a count below one or an image size below 64.
        FileExistsError: ``root`` holds another data set, or shapes of other parameters.
    """
    if min(train, val) < 1 or image_size < 64:
        raise ValueError(
            "shapes need train >= 1, val >= 1 and image_size >= 64, "
            f"got train={train}, val={val}, image_size={image_size}"
        )
    root = Path(root)
    parameters = _Parameters(version=2, seed=seed, train=train, val=val, image_size=image_size)
    counts = {"train2017": train, "val2017": val}
    files = {split: root / "annotations" / f"instances_{split}.json" for split in counts}
    complete = {split: _complete(files[split], root / split, parameters) for split in counts}
    for number, (split, count) in enumerate(counts.items()):
        if not complete[split]:
            logger.info("generating %d images in %s", count, root / split)
            _write_split(files[split], root / split, number, count, parameters, progress)
    return root


def _complete(annotation_file: Path, folder: Path, parameters: _Parameters) -> bool:
    """Whether the split is complete.

    Raises:
        FileExistsError: the file is of another data set.
    """
    if not annotation_file.exists():
        return False
    wanted = {"description": _DESCRIPTION, "parameters": asdict(parameters)}
    try:
        found = json.loads(annotation_file.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("info") != wanted:
        raise FileExistsError(
            f"{annotation_file} belongs to another data set, or to shapes of other parameters "
            f"than {asdict(parameters)}; remove it or choose another folder"
        )
    return all((folder / image["file_name"]).exists() for image in found["images"])


def _write_split(
    annotation_file: Path,
    folder: Path,
    number: int,
    count: int,
    parameters: _Parameters,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Writes one split, annotations last: a split with annotations is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    annotation_file.parent.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        scene_rng = np.random.default_rng([parameters.seed, number, index, 0])
        paint_rng = np.random.default_rng([parameters.seed, number, index, 1])
        height, width = _image_size(scene_rng, parameters.image_size)
        scene = _random_scene(scene_rng, height, width)
        image_id = 1 + index + number * 500_000
        name = f"shapes_{image_id:06d}.jpg"
        image = paint_scene(paint_rng, height, width, [contours for _, contours in scene])
        _write_jpeg(folder / name, image)
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for category_id, contours in scene:
            box = outline_box(contours, height, width)
            annotations.append(_annotation(len(annotations) + 1, image_id, category_id, box))
        if progress is not None:
            progress(index + 1, count)
    content = {
        "info": {"description": _DESCRIPTION, "parameters": asdict(parameters)},
        "licenses": [],
        "images": images,
        "categories": [
            {"id": key, "name": name, "supercategory": "shape"} for key, name in CATEGORIES.items()
        ],
        "annotations": annotations,
    }
    unfinished = annotation_file.with_suffix(".json.part")
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    unfinished.replace(annotation_file)


def _write_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    written, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90]
    )
    if not written:
        raise OSError(f"{path}: OpenCV could not encode the image")
    path.write_bytes(data.tobytes())


def _annotation(
    annotation_id: int, image_id: int, category_id: int, box: tuple[float, float, float, float]
) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    width, height = round(x1 - x0, 2), round(y1 - y0, 2)
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [x0, y0, width, height],
        "area": round(width * height, 2),
        "iscrowd": 0,
        "segmentation": [],
    }


def _image_size(rng: np.random.Generator, image_size: int) -> tuple[int, int]:
    """(height, width): landscape, portrait or square."""
    shorter = image_size * 3 // 4
    sizes = ((shorter, image_size), (image_size, shorter), (image_size, image_size))
    return sizes[rng.integers(3)]


def _random_scene(
    rng: np.random.Generator, height: int, width: int
) -> list[tuple[int, list[Points]]]:
    """(category id, contours in pixels) from back to front, each sufficiently visible."""
    if rng.random() < _EMPTY_SHARE:
        return []
    scene: list[tuple[int, list[Points]]] = []
    samples: list[Points] = []
    wanted = int(rng.integers(1, _MAX_OBJECTS + 1))
    for _ in range(4 * wanted):
        category_id, contours = _random_object(rng, height, width)
        stack = [*(placed for _, placed in scene), contours]
        points = [*samples, sample(contours)]
        if all(
            visible_share(own, stack[depth + 1 :], height, width) >= _MIN_VISIBLE
            for depth, own in enumerate(points)
        ):
            scene.append((category_id, contours))
            samples = points
        if len(scene) == wanted:
            break
    return scene


def _random_object(rng: np.random.Generator, height: int, width: int) -> tuple[int, list[Points]]:
    """(category id, contours in pixels); sizes are uniform on a logarithmic scale."""
    category_id = int(rng.choice(list(CATEGORIES)))
    side = min(height, width) * _MIN_SIDE * (_MAX_SIDE / _MIN_SIDE) ** rng.random()
    x, y = rng.uniform(0.02, 0.98, 2) * (width, height)
    turn = rng.uniform(-_MAX_TURN, _MAX_TURN)
    squeeze, tilt = rng.uniform(0.8, 1), rng.uniform(0, np.pi)
    return category_id, outline(CATEGORIES[category_id], (x, y), side, turn, squeeze, tilt)
