"""PNG masks of COCO's annotations: instances, rasterised by pycocotools, or what draws them."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL.Image

from igcv3det.atomic_files import replacing
from igcv3det.datasets.coco import category_name
from igcv3det.datasets.image_files import ImageFolder, leads_outside
from igcv3det.datasets.image_sizes import stated_size
from igcv3det.datasets.issues import AnnotationError
from igcv3det.datasets.text_files import read_json
from igcv3det.tasks.segment.drawing import class_colours
from igcv3det.tasks.segment.masks import MAX_CLASSES, Mask

_FARTHEST_PX = 100_000  # of a polygon's corner: pycocotools walks along its edges pixel by pixel

BACKGROUND = "background"


class CocoMasks(NamedTuple):
    """Instance annotations, ready to be drawn.

    Attributes:
        path: of the annotation file, for messages.
        images: COCO's entries.
        instances: annotations by image id.
        labels: label of each category id: 1, 2, ... in the order of the ids; 0 is the background.
        names: of the labels, the background first.
    """

    path: Path
    images: Sequence[Mapping[str, Any]]
    instances: Mapping[Any, Sequence[Mapping[str, Any]]]
    labels: Mapping[Any, int]
    names: tuple[str, ...]

    def draw(self, image_id: Any, size: tuple[int, int]) -> Mask:  # noqa: ANN401
        """See `DrawnMasks`."""
        return draw_instances(self, self.instances.get(image_id, ()), size)


class DrawnMasks(Protocol):
    """Annotations that can be drawn as masks."""

    @property
    def images(self) -> Sequence[Mapping[str, Any]]:
        """COCO's entries."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels."""

    def draw(self, image_id: Any, size: tuple[int, int]) -> Mask:  # noqa: ANN401
        """The mask of an image: labels [H, W].

        Raises:
            AnnotationError: what annotates it cannot be used; names it.
        """


def read_lists(path: Path) -> dict[str, list[Any]]:
    """The lists of images, annotations and categories of a COCO file.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is not COCO JSON.
    """
    content = read_json(path)
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or any(type(content.get(key)) is not list for key in keys):
        raise AnnotationError(f"{path}: expects COCO JSON with the lists {', '.join(keys)}")
    return {key: content[key] for key in keys}


def read_instances(path: Path) -> CocoMasks:
    """Reads a COCO annotation file.

    Raises:
        FileNotFoundError: there is no such file.
        AnnotationError: it is not COCO JSON, or has too many categories for 8-bit masks.
    """
    return instances_of(read_lists(path), path)


def instances_of(content: Mapping[str, Sequence[Any]], path: Path) -> CocoMasks:
    """As `read_instances`, of what `read_lists` returned for ``path``."""
    try:
        categories = sorted(content["categories"], key=lambda entry: entry["id"])
        labels = {entry["id"]: label for label, entry in enumerate(categories, start=1)}
        names = (BACKGROUND, *(str(category_name(entry, entry["id"])) for entry in categories))
        instances = defaultdict(list)
        for annotation in content["annotations"]:
            instances[annotation["image_id"]].append(annotation)
        images = [
            {"id": one["id"], "file_name": one["file_name"], **one} for one in content["images"]
        ]  # both must be there
    except (KeyError, TypeError) as error:
        raise AnnotationError(f"{path}: an entry lacks {error}") from error
    if not 1 <= len(categories) < MAX_CLASSES:
        raise AnnotationError(
            f"{path}: has {len(categories)} categories, masks can have 1 to {MAX_CLASSES - 1}"
        )
    return CocoMasks(path, images, instances, labels, names)


def draw_instances(
    masks: CocoMasks, annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> Mask:
    """The mask of an image: larger instances first, so that smaller ones are on top of them.

    Args:
        masks: of the annotation file.
        annotations: of the image.
        size: (height, width) of the image, pixels.

    Returns:
        [H, W] uint8 labels.

    Raises:
        AnnotationError: a category or a segmentation that cannot be used; names the annotation.
    """
    mask = np.zeros(size, np.uint8)
    drawn = []
    for annotation in annotations:
        name = f"{masks.path}: annotation {annotation.get('id')}"
        label = masks.labels.get(annotation.get("category_id"))
        if label is None:
            raise AnnotationError(f"{name}: unknown category {annotation.get('category_id')!r}")
        area = _rasterised(annotation.get("segmentation"), size, name)
        drawn.append((int(area.sum()), label, area))
    for _, label, area in sorted(drawn, key=lambda own: -own[0]):
        mask[area] = label
    return mask


def write_masks(
    masks: DrawnMasks,
    images: Path,
    output: Path,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Writes a PNG mask for each image, in folders like theirs, and ``classes.txt`` beside all.

    Args:
        masks: of the annotation file.
        images: folder that file names start from.
        output: folder of the masks; new, or empty.
        progress: called with the number of masks written.

    Returns:
        The number of masks.

    Raises:
        FileExistsError: ``output`` holds something, or ``classes.txt`` has other names.
        AnnotationError, ImageReadError: an entry cannot be used, its image is not there, or two
            would have the same mask.
    """
    _check_names(masks.names)
    classes, text = output.parent / "classes.txt", "".join(f"{name}\n" for name in masks.names)
    if output.is_dir() and any(output.iterdir()):
        raise FileExistsError(f"{output}: holds something; remove it first")
    if classes.exists() and classes.read_text(encoding="utf-8") != text:
        raise FileExistsError(f"{classes}: has other names; remove it first")
    found = _mask_names(masks, ImageFolder(images))
    output.mkdir(parents=True, exist_ok=True)
    palette = np.zeros((256, 3), np.uint8)
    first = int(masks.names[0] == BACKGROUND)  # which stays black
    palette[first : len(masks.names)] = class_colours(len(masks.names) - first)
    pairs = zip(masks.images, found.items(), strict=True)
    for number, (entry, (mask_name, image_name)) in enumerate(pairs, start=1):
        size = stated_size(entry.get("height"), entry.get("width"), images / image_name)
        mask = masks.draw(entry["id"], (size.height, size.width))
        image = PIL.Image.fromarray(mask, "P")
        image.putpalette(palette.ravel().tolist())
        with replacing(output / mask_name) as partial:
            image.save(partial, format="PNG")
        if progress is not None:
            progress(number)
    classes.write_text(text, encoding="utf-8")
    return len(masks.images)


def _check_names(names: Sequence[str]) -> None:
    """Raises AnnotationError for names that ``classes.txt`` cannot hold, a line each."""
    for name in names:
        if not name.strip() or len(name.splitlines()) > 1:
            raise AnnotationError(f"category {name!r}: a name is one line of classes.txt")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise AnnotationError(f"category {twice[0]!r}: two categories have this name")


def _mask_names(masks: DrawnMasks, folder: ImageFolder) -> dict[str, str]:
    """The file of each image by that of its mask, in the order of the images."""
    found: dict[str, str] = {}
    for entry in masks.images:
        stated = str(entry["file_name"])
        if leads_outside(stated):
            raise AnnotationError(
                f"{stated!r} is absolute or leads out of {folder.folder}, and so would its mask"
            )
        name = folder.find(stated)
        mask = PurePath(name).with_suffix(".png").as_posix()
        if mask in found:
            raise AnnotationError(
                f"{found[mask]} and {name} would have the same mask {mask}: rename one of them"
            )
        found[mask] = name
    return found


def _rasterised(segmentation: Any, size: tuple[int, int], name: str) -> np.ndarray[Any, Any]:  # noqa: ANN401
    """[H, W] bool: the pixels of polygons, or of a run-length code."""
    from pycocotools import mask as coco_mask

    height, width = size
    try:
        if isinstance(segmentation, list):
            if not segmentation or any(len(polygon) < 6 for polygon in segmentation):
                raise ValueError("a polygon needs three corners")
            if not np.abs(np.concatenate(segmentation).astype(float)).max() <= _FARTHEST_PX:
                raise ValueError(f"coordinates are not within {_FARTHEST_PX} pixels")
            code = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
        elif isinstance(segmentation.get("counts"), list):
            code = coco_mask.frPyObjects(segmentation, height, width)
        else:
            code = segmentation
        with warnings.catch_warnings():  # of pycocotools 2.0.11 under NumPy 2
            warnings.simplefilter("ignore", DeprecationWarning)
            area = coco_mask.decode(code).astype(bool)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"{name}: no segmentation that can be drawn ({error})") from None
    if area.shape != size:
        raise AnnotationError(
            f"{name}: its segmentation is {area.shape[1]} x {area.shape[0]} pixels, the image "
            f"{width} x {height}"
        )
    return np.asarray(area)
