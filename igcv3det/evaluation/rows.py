"""Detections of many images in flat arrays, in a data set's own ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from igcv3det.datasets.results import Result
from igcv3det.structures import Detections


@dataclass(frozen=True)
class DetectionRows:
    """N detections.

    Attributes:
        image_ids: [N] int64; floats would hold whole numbers up to 2**53 only.
        category_ids: [N] int64.
        boxes: [N, 4] float64 (x, y, width, height), pixels of the original image.
        scores: [N] float64.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, chosen: NDArray[np.bool_ | np.int64]) -> DetectionRows:
        """Some of the detections, by a mask or by their rows."""
        return DetectionRows(
            self.image_ids[chosen],
            self.category_ids[chosen],
            self.boxes[chosen],
            self.scores[chosen],
        )

    @property
    def is_finite(self) -> NDArray[np.bool_]:
        """[N], whether box and score are."""
        finite: NDArray[np.bool_] = np.isfinite(self.boxes).all(axis=1) & np.isfinite(self.scores)
        return finite

    def results(self) -> list[dict[str, Any]]:
        """The detections in COCO's results format, unrounded."""
        columns = (self.image_ids, self.category_ids, self.boxes, self.scores)
        return [
            {"image_id": image_id, "category_id": category_id, "bbox": box, "score": score}
            for image_id, category_id, box, score in zip(
                *(column.tolist() for column in columns), strict=True
            )
        ]


def concatenate(parts: Sequence[DetectionRows]) -> DetectionRows:
    """All detections of some parts, of none if there are none."""
    return DetectionRows(
        np.concatenate([np.zeros(0, np.int64), *(part.image_ids for part in parts)]),
        np.concatenate([np.zeros(0, np.int64), *(part.category_ids for part in parts)]),
        np.concatenate([np.zeros((0, 4)), *(part.boxes for part in parts)]),
        np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
    )


def rows_of_image(
    image_id: int, found: Detections, category_ids: NDArray[np.int64]
) -> DetectionRows:
    """The detections of one image.

    Args:
        image_id: the data set's own.
        found: boxes xyxy.
        category_ids: [K + 1], the data set's category id of every label.
    """
    boxes = found.boxes.detach().to("cpu", torch.float64).numpy()
    labels = found.labels.detach().cpu().numpy()
    return DetectionRows(
        np.full(len(found), image_id, dtype=np.int64),
        category_ids[labels],
        np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1),
        found.scores.detach().cpu().numpy().astype(np.float64),
    )


def rows_of_results(results: Sequence[Result]) -> DetectionRows:
    """The detections of a results file."""
    return DetectionRows(
        np.array([result.image_id for result in results], dtype=np.int64),
        np.array([result.category_id for result in results], dtype=np.int64),
        np.array([result.bbox for result in results], dtype=np.float64).reshape(-1, 4),
        np.array([result.score for result in results], dtype=np.float64),
    )
