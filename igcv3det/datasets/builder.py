"""From a format's entries to the record: the checks of single entries, for every format.

A reader hands over values as its file has them. What cannot be used is dropped and becomes an
issue, by the same rules for training, evaluation, distillation and the checker.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, cast

import numpy as np

from igcv3det.datasets.copied_annotations import without_copies
from igcv3det.datasets.issues import AnnotationError, DatasetIssue, IssueKind
from igcv3det.datasets.record import (
    NO_ID,
    AnnotationRecord,
    ImageTable,
    TextCollector,
    Texts,
)
from igcv3det.datasets.values import (
    LARGEST_PX,
    fits_id,
    flag,
    is_box,
    is_number,
    require_id,
    shown,
    whole_number,
)
from igcv3det.structures import Categories

MAX_CATEGORIES = 2**15 - 1  # labels are int16
_UNKNOWN = -1  # row of an image that the file does not have


class RawAnnotation(NamedTuple):
    """An annotation with values as the file has them; None for what it lacks.

    Attributes:
        image_id: of an image that was added before.
        category_id: of the categories.
        bbox: list of four numbers: x, y, width, height in pixels.
        is_crowd: 0 or 1; None is 0.
        area: px²; None or what is no number is width times height.
        score: of a detector; None or what is no number is none.
        annotation_id: for messages.
    """

    image_id: object
    category_id: object
    bbox: object
    is_crowd: object = None
    area: object = None
    score: object = None
    annotation_id: object = None


class RecordBuilder:
    """Collects images, then their annotations.

    Args:
        path: the file, for messages.
        categories: of the annotations; None numbers the names as they come.
        issues: found before.
        position_text: what positions count, for messages.
        class_names: in place of ``categories``: the names that there are, numbered from 1.

    Raises:
        AnnotationError: more than `MAX_CATEGORIES` categories.
    """

    def __init__(
        self,
        path: Path,
        categories: Categories | None = None,
        issues: Sequence[DatasetIssue] = (),
        position_text: str = "annotations[{}]",
        class_names: Sequence[str] | None = None,
    ) -> None:
        self._path, self._position_text = path, position_text
        self._takes_new_names = class_names is None
        if categories is None:
            categories = Categories.of_names(class_names or ())
        self._category_ids, self._names = list(categories.ids), list(categories.names)
        self._label_of: dict[int | None, int] = {
            number: label for label, number in enumerate(categories.ids, start=1)
        }
        self._named = dict(zip(categories.names, categories.ids, strict=True))
        self._require_few_categories()
        self._issues = list(issues)
        self._image_ids, self._sizes, self._is_upright = array("q"), array("i"), array("b")
        self._image_names, self._label_files = TextCollector(), TextCollector()
        self._has_label_files = False
        self._row_of: dict[int, int | None] = {}  # by image id; None: that image is dropped
        self._id_of: dict[str, int] = {}  # by file name
        self._rows, self._labels, self._positions = array("i"), array("h"), array("i")
        self._boxes, self._areas, self._scores = array("d"), array("d"), array("f")
        self._crowds, self._ids = array("b"), array("q")

    def add_image(
        self,
        image_id: object,
        file_name: object,
        width: object,
        height: object,
        position: int = 0,
        label_file: Path | str | None = None,
        *,
        is_upright: bool = False,
    ) -> None:
        """Adds an image; values as the file has them, None for what it lacks.

        Args:
            image_id: a whole number of at most 63 bits.
            file_name: path below the folder of the images.
            width: whole number of pixels; training drops an image without a size.
            height: likewise.
            position: in the file's list, for messages.
            label_file: the file that describes this image, for messages; None is the whole path.
            is_upright: as in `ImageEntry`.

        Raises:
            AnnotationError: the id has more than 63 bits.
        """
        number = whole_number(image_id)
        if number is None:
            detail = f"images[{position}]: id must be a whole number, got {shown(image_id)}"
            self._add_issue("bad image entry", None, detail)
            return
        require_id(number, f"{self._path}: images[{position}]")
        if number in self._row_of:
            detail = f"images[{position}]: {shown(file_name)}, but an earlier image has this id"
            self._add_issue("duplicate image id", number, detail)
        elif not isinstance(file_name, str) or not file_name:
            self._row_of[number] = None
            detail = f"images[{position}]: file_name must be text, got {shown(file_name)}"
            self._add_issue("bad image entry", number, detail)
        else:
            self._note_second_id(number, file_name)
            self._row_of[number] = len(self._image_ids)
            self._label_files.append(str(self._path if label_file is None else label_file))
            self._has_label_files |= label_file is not None
            self._image_ids.append(number)
            self._image_names.append(file_name)
            self._sizes.extend(self._size(number, width, height) or (0, 0))
            self._is_upright.append(is_upright)

    def add_named(
        self, image_id: int, name: str, bbox: list[float], position: int, is_crowd: int = 0
    ) -> None:
        """Adds an annotation whose class is a name; a new name gets the next category id.

        Raises:
            AnnotationError: more than `MAX_CATEGORIES` categories.
        """
        number = self._named.get(name)
        if number is None and not self._takes_new_names:
            known = ", ".join(self._names[:5]) + (", ..." if len(self._names) > 5 else "")
            detail = f"{self._position_text.format(position)}: class {shown(name)} is not among "
            detail += f"the data set's names ({known}): correct the label or add the name there"
            self._add_issue("unknown category", image_id, detail)
            return
        if number is None:
            number = max(self._category_ids, default=0) + 1
            self._category_ids.append(number)
            self._names.append(name)
            self._named[name] = number
            self._label_of[number] = len(self._names)
            self._require_few_categories()
        self.add_annotation(RawAnnotation(image_id, number, bbox, is_crowd), position)

    def add_annotation(self, given: RawAnnotation, position: int = 0) -> None:
        """Adds an annotation; ``position`` is that in the file's list, for messages."""
        image, own_id = whole_number(given.image_id), whole_number(given.annotation_id)
        row = None if image is None else self._row_of.get(image, _UNKNOWN)
        if row is None and image is not None:
            return  # its image was dropped, which is an issue already
        label = self._label_of.get(whole_number(given.category_id))
        crowd = False if given.is_crowd is None else flag(given.is_crowd)
        if row is None or row == _UNKNOWN:
            self._drop("unknown image", given.image_id, position, image, own_id)
        elif label is None:
            self._drop("unknown category", given.category_id, position, image, own_id)
        elif crowd is None:
            self._drop("bad annotation", given.is_crowd, position, image, own_id)
        elif not is_box(given.bbox):
            self._drop("bad box", given.bbox, position, image, own_id)
        else:
            box = cast("list[float]", given.bbox)
            self._rows.append(row)
            self._labels.append(label)
            self._boxes.extend(box)
            self._areas.append(given.area if is_number(given.area) else box[2] * box[3])  # type: ignore[arg-type]
            self._crowds.append(crowd)
            self._scores.append(given.score if is_number(given.score) else math.nan)  # type: ignore[arg-type]
            self._ids.append(own_id if own_id is not None and fits_id(own_id) else NO_ID)
            self._positions.append(position)

    def add_issue(self, kind: IssueKind, file: Path | str, detail: str) -> None:
        """Notes what a reader found itself; ``detail`` says where in the file, and what to do."""
        self._issues.append(DatasetIssue(kind, str(file), None, None, detail))

    def add_bad_entry(self, section: str, entry: object, position: int) -> None:
        """Notes an entry of images or annotations that has no fields at all."""
        kind: IssueKind = "bad image entry" if section == "images" else "bad annotation"
        detail = f"{section}[{position}]: must be an object with fields, got {shown(entry)}"
        self._add_issue(kind, None, detail)

    def build(self) -> AnnotationRecord:
        """The record of all that was added."""
        record = AnnotationRecord(
            path=self._path,
            categories=Categories(tuple(self._category_ids), tuple(self._names)),
            images=ImageTable(
                np.asarray(self._image_ids),
                np.asarray(self._sizes).reshape(-1, 2),
                self._image_names.build(),
                np.asarray(self._is_upright).astype(np.bool_),
            ),
            image_rows=np.asarray(self._rows),
            labels=np.asarray(self._labels),
            boxes=np.asarray(self._boxes).reshape(-1, 4),
            areas=np.asarray(self._areas),
            is_crowd=np.asarray(self._crowds).astype(np.bool_),
            scores=np.asarray(self._scores),
            annotation_ids=np.asarray(self._ids),
            positions=np.asarray(self._positions),
            issues=tuple(self._issues),
            label_files=self._label_files.build() if self._has_label_files else Texts(),
            position_text=self._position_text,
        )
        return without_copies(record)

    def _drop(
        self,
        kind: IssueKind,
        value: object,
        position: int,
        image_id: int | None,
        annotation_id: int | None,
    ) -> None:
        where = self._position_text.format(position)
        detail = f"{where}: {_WANTED[kind]}, got {shown(value)}"
        self._add_issue(kind, image_id, detail, annotation_id)

    def _size(self, number: int, width: object, height: object) -> tuple[int, int] | None:
        sides = whole_number(height) or 0, whole_number(width) or 0
        if all(0 < side < LARGEST_PX for side in sides):
            return sides
        detail = f"must be whole numbers >= 1, got {shown(width)} and {shown(height)}"
        self._add_issue("bad image size", number, f"width and height {detail}")
        return None

    def _note_second_id(self, number: int, name: str) -> None:
        first = self._id_of.setdefault(name, number)
        if first != number:
            detail = f"file_name: {name} is image {first} too; both are kept"
            self._add_issue("duplicate file name", number, detail)

    def _add_issue(
        self, kind: IssueKind, image_id: int | None, detail: str, annotation_id: int | None = None
    ) -> None:
        row = None if image_id is None else self._row_of.get(image_id)
        file = str(self._path) if row is None else self._file_of(row)
        self._issues.append(DatasetIssue(kind, file, image_id, annotation_id, detail))

    def _file_of(self, row: int) -> str:
        is_added = row < len(self._label_files)
        return self._label_files[row] if is_added else str(self._path)

    def _require_few_categories(self) -> None:
        count = len(self._names)
        if count > MAX_CATEGORIES:
            raise AnnotationError(f"{self._path}: categories: {count}, more than {MAX_CATEGORIES}")


_WANTED: Final[dict[IssueKind, str]] = {
    "unknown image": "image_id must be that of an image",
    "unknown category": "category_id must be that of a category",
    "bad annotation": "iscrowd must be 0 or 1",
    "bad box": "bbox must be four finite numbers x, y, width, height",
}
