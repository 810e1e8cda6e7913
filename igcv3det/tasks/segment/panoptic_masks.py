"""Masks of COCO's panoptic annotations: a PNG whose colours are ids of segments, and a JSON.

The id of a pixel is R + 256 G + 65536 B; 0 is no segment. Source: cocodataset.org, "Format of
data", section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from igcv3det.datasets.coco import category_name
from igcv3det.datasets.issues import AnnotationError
from igcv3det.tasks.segment.masks import IGNORED, MAX_CLASSES, Mask

SEGMENTS = "segments_info"


class PanopticMasks(NamedTuple):
    """Panoptic annotations, ready to be drawn; see `igcv3det.tasks.segment.coco_masks.DrawnMasks`.

    Attributes:
        path: of the JSON, for messages.
        folder: of the PNG files.
        images: COCO's entries.
        segments: by image id, the annotation.
        labels: label of each category id, from 0 in the order of the ids.
        names: of the labels.
    """

    path: Path
    folder: Path
    images: Sequence[Mapping[str, Any]]
    segments: Mapping[Any, Mapping[str, Any]]
    labels: Mapping[Any, int]
    names: tuple[str, ...]

    def draw(self, image_id: Any, size: tuple[int, int]) -> Mask:  # noqa: ANN401
        """The mask of an image; pixels of no segment are ignored, and so is a whole image of none.

        Raises:
            AnnotationError: a file that is missing, is no RGB image or of another size, or an id or
                category that the JSON lacks.
        """
        annotation = self.segments.get(image_id)
        if annotation is None:
            return np.full(size, IGNORED, np.uint8)
        file = self.folder / str(annotation["file_name"])
        ids = _read_ids(file)
        if ids.shape != size:
            raise AnnotationError(
                f"{file}: {ids.shape[1]} x {ids.shape[0]} pixels, its image {size[1]} x {size[0]}"
            )
        found, places = np.unique(ids, return_inverse=True)
        return self._labels(annotation, found, file)[places].reshape(size)

    def _labels(
        self, annotation: Mapping[str, Any], found: NDArray[np.int32], file: Path
    ) -> NDArray[np.uint8]:
        """The label of each id."""
        categories = {one["id"]: one["category_id"] for one in annotation[SEGMENTS]}
        labels = []
        for own in found.tolist():
            if own == 0:
                labels.append(IGNORED)
                continue
            if own not in categories:
                raise AnnotationError(f"{file}: segment {own} is not in {self.path}")
            if categories[own] not in self.labels:
                raise AnnotationError(
                    f"{self.path}: segment {own} of {file.name}: unknown category "
                    f"{categories[own]!r}"
                )
            labels.append(self.labels[categories[own]])
        return np.array(labels, np.uint8)


def is_panoptic(content: Mapping[str, Sequence[Any]]) -> bool:
    """Whether the lists of a COCO file are panoptic annotations."""
    return any(isinstance(one, dict) and SEGMENTS in one for one in content["annotations"][:1])


def panoptic_of(content: Mapping[str, Sequence[Any]], path: Path, folder: Path) -> PanopticMasks:
    """The annotations of a file.

    Args:
        content: its lists.
        path: of the file.
        folder: of the PNG files.

    Raises:
        FileNotFoundError: there is no such folder.
        AnnotationError: an entry lacks something, or there are too many categories.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of panoptic PNG files (--panoptic DIR)")
    try:
        categories = sorted(content["categories"], key=lambda entry: entry["id"])
        labels = {entry["id"]: label for label, entry in enumerate(categories)}
        names = tuple(str(category_name(entry, entry["id"])) for entry in categories)
        segments = {one["image_id"]: one for one in content["annotations"]}
        for one in content["annotations"]:
            _ = one["file_name"], [(own["id"], own["category_id"]) for own in one[SEGMENTS]]
        images = [
            {"id": one["id"], "file_name": one["file_name"], **one} for one in content["images"]
        ]
    except (KeyError, TypeError) as error:
        raise AnnotationError(f"{path}: an entry lacks {error}") from error
    if not 2 <= len(names) <= MAX_CLASSES:
        raise AnnotationError(
            f"{path}: has {len(names)} categories, masks can have 2 to {MAX_CLASSES}"
        )
    return PanopticMasks(path, folder, images, segments, labels, names)


def _read_ids(file: Path) -> NDArray[np.int32]:
    try:
        with PIL.Image.open(file) as image:
            mode, values = image.mode, np.array(image)
    except FileNotFoundError:
        raise AnnotationError(f"{file}: no such file") from None
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise AnnotationError(f"{file}: not a readable image ({error})") from None
    if mode != "RGB":
        raise AnnotationError(f"{file}: an {mode} image; ids of segments are RGB colours")
    red, green, blue = (values[..., channel].astype(np.int32) for channel in range(3))
    return red + 256 * green + 65536 * blue
