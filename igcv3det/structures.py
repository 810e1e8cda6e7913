"""Records that the modules of the package exchange.

Boxes are ``xyxy`` in absolute pixels, of the frame that the record names. Labels are 1..K; label 0
is the background of the classification logits. A data set's own category ids are in `Categories`.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

if TYPE_CHECKING:  # data sets are read without PyTorch, which takes half a gigabyte
    from torch import Tensor

    Rows = (
        Tensor
        | np.ndarray[Any, Any]
        | Sequence[int]
        | Sequence[bool]
        | slice
        | int
        | np.integer[Any]
    )
    """Some of N rows."""


class Target(NamedTuple):
    """The ground truth of one image.

    Attributes:
        boxes: [N, 4] float32 xyxy, pixels of the network input; N may be 0.
        labels: [N] int64 in 1..K.
        crowds: [M, 4] float32 xyxy, pixels of the network input: regions that are neither objects
            nor background (COCO's ``iscrowd``); M may be 0.
        image_id: the data set's own id.
        original_size: (height, width) in pixels of the image before any transform.
        scores: [N] float32 in 0..1, the teacher's score of each box; None for annotated boxes.
    """

    boxes: Tensor
    labels: Tensor
    crowds: Tensor
    image_id: int
    original_size: tuple[int, int]
    scores: Tensor | None = None


class HeadOutputs(NamedTuple):
    """Raw head outputs for a batch, with the anchors in the order of ``SSDLite.anchors``.

    Attributes:
        logits: [B, A, K + 1], before softmax or sigmoid; column 0 is the background.
        offsets: [B, A, 4] encoded regression (dx, dy, dw, dh).
    """

    logits: Tensor
    offsets: Tensor


@dataclass(frozen=True)
class Categories:
    """The classes of a data set in label order: label ``i`` is ``ids[i - 1]``, ``names[i - 1]``.

    Attributes:
        ids: [K], the data set's own category ids.
        names: [K], the class names.

    Raises:
        ValueError: ids and names differ in number, or an id occurs twice.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.ids)} category ids but {len(self.names)} names")
        if len(set(self.ids)) != len(self.ids):
            twice = sorted({i for i in self.ids if self.ids.count(i) > 1})
            raise ValueError(f"category ids must differ, these occur twice: {twice}")

    def __len__(self) -> int:
        return len(self.ids)

    def labels_of(self, classes: str | int | Iterable[str | int]) -> list[int]:
        """The labels of some classes, in ascending order.

        Args:
            classes: names or category ids, or one of them; an id may be written as text, where no
                class has that name.

        Raises:
            ValueError: there is no such class; the message names the nearest.

        Example:
            >>> Categories((1, 18), ("person", "dog")).labels_of(["dog", 1])
            [1, 2]
        """
        known: dict[str | int, int] = {}
        for label, category_id in enumerate(self.ids, 1):
            known |= {category_id: label, str(category_id): label}
        known |= {name: label for label, name in enumerate(self.names, 1)}
        wanted = [classes] if isinstance(classes, (str, int)) else list(classes)
        for name in wanted:
            if name not in known:
                near = difflib.get_close_matches(str(name), self.names, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ValueError(f"the detector has no class {name!r}{hint}")
        return sorted({known[name] for name in wanted})

    @classmethod
    def of_names(cls, names: Sequence[str]) -> Categories:
        """Ids 1..K for names in their order."""
        return cls(tuple(range(1, len(names) + 1)), tuple(names))

    @classmethod
    def numbered(cls, num_classes: int) -> Categories:
        """Ids 1..K and names "class 1".."class K", for a detector without a data set."""
        labels = range(1, num_classes + 1)
        return cls(tuple(labels), tuple(f"class {label}" for label in labels))


@dataclass(frozen=True, eq=False)
class Detections:
    """The detections of one image, in descending order of score.

    Attributes:
        boxes: [N, 4] float32 xyxy, pixels of the original image.
        scores: [N] float32 in 0..1.
        labels: [N] int64 in 1..K.
        categories: ids and names of the labels; None straight after `postprocess`.
        ids: [N] int64 from 1, the same for an object in all frames of a video; None without
            tracking.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    categories: Categories | None = None
    ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """[N], the class name of each detection.

        Raises:
            ValueError: there are no categories.
        """
        return [self._known().names[label - 1] for label in self.labels.tolist()]

    @property
    def category_ids(self) -> list[int]:
        """[N], the data set's category id of each detection.

        Raises:
            ValueError: there are no categories.
        """
        return [self._known().ids[label - 1] for label in self.labels.tolist()]

    def __iter__(self) -> Iterator[tuple[Tensor, float, str]]:
        """Box [4], score and class name of each detection.

        Raises:
            ValueError: there are no categories.
        """
        return iter(zip(self.boxes, self.scores.tolist(), self.names, strict=True))

    def __getitem__(self, rows: Rows) -> Self:
        """Some of the detections, in the order of ``rows``.

        Args:
            rows: a mask [N], indices, a slice, or one index.

        Example:
            >>> import torch
            >>> scores = torch.tensor([0.9, 0.2])
            >>> found = Detections(torch.zeros(2, 4), scores, torch.tensor([1, 1]))
            >>> len(found[found.scores > 0.5]), len(found[:1]), len(found[-1])
            (1, 1, 1)
        """
        import torch

        index: Any = rows
        if not isinstance(index, slice):
            # PyTorch takes no NumPy array with negative strides, such as argsort()[::-1]
            index = np.ascontiguousarray(index) if isinstance(index, np.ndarray) else index
            index = torch.as_tensor(index, device=self.scores.device).reshape(-1)
            index = index if len(index) else index.to(torch.int64)  # an empty list has no type
        return dataclasses.replace(
            self,
            boxes=self.boxes[index],
            scores=self.scores[index],
            labels=self.labels[index],
            ids=None if self.ids is None else self.ids[index],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the records of ``predict --json`` have them, unrounded.

        Returns:
            ``{"detections": [{"label", "category_id", "score", "box": [x0, y0, x1, y1]}]}``, with
            "id" in each where there are ids.

        Raises:
            ValueError: there are no categories.
        """
        columns = (self.names, self.category_ids, self.scores.tolist(), self.boxes.tolist())
        keys = ("label", "category_id", "score", "box")
        rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
        if self.ids is not None:
            rows = [{**row, "id": i} for row, i in zip(rows, self.ids.tolist(), strict=True)]
        return {"detections": rows}

    def to_supervision(self) -> Any:  # noqa: ANN401 (of a package that need not be installed)
        """The detections as ``supervision.Detections``.

        ``class_id`` is the label less one, the place of the class in ``categories``;
        ``data["class_name"]`` has the names, ``tracker_id`` the ids.

        Raises:
            ImportError: the package supervision is not installed.
        """
        try:
            supervision = importlib.import_module("supervision")
        except ModuleNotFoundError as error:
            if error.name != "supervision":
                raise
            raise ImportError("needs supervision: pip install supervision") from error
        names = {} if self.categories is None else {"class_name": np.array(self.names, str)}
        return supervision.Detections(
            xyxy=self.boxes.numpy().reshape(-1, 4),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy() - 1,
            tracker_id=None if self.ids is None else self.ids.numpy(),
            data=names,
        )

    def above(self, threshold: float) -> Self:
        """The detections with a score of at least ``threshold``."""
        keep = self.scores >= threshold
        return self[keep]

    def _known(self) -> Categories:
        if self.categories is None:
            raise ValueError("these detections have no categories, so their labels have no names")
        return self.categories

    @classmethod
    def empty(cls, categories: Categories | None = None) -> Detections:
        """No detections."""
        import torch

        return cls(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), categories)
