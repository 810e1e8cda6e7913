"""COCO's average precision, by pycocotools on the original annotation file.

Detections are kept as flat rows in the data set's own ids; only images that were shown are
evaluated, so an image without detections must be shown too. Under distributed training the rows of
all processes are joined, an image that a sampler dealt out twice counts once, and the first process
evaluates.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from igcv3det.datasets.category_map import UNKNOWN, match_categories
from igcv3det.datasets.ground_truth import read_ground_truth, read_results
from igcv3det.evaluation.coco_scoring import Backend, CocoMetrics, Rows, metrics_as_json, score_rows
from igcv3det.evaluation.diagnosis import diagnose
from igcv3det.structures import Categories, Detections

logger = logging.getLogger(__name__)

__all__ = ["SUSPICIOUS_AP", "CocoEvaluator", "CocoMetrics", "metrics_as_json"]

SUSPICIOUS_AP = 1e-3  # below it, something is wrong rather than weak


class CocoEvaluator:
    """Collects detections image by image and scores them.

    Args:
        annotation_file: COCO JSON; its "area" and "iscrowd" are used as they are.
        categories: the detector's classes, matched to the file's by `match_categories`; None when
            detections come in the file's own ids (`update_results`).
        scored_ids: category ids of the file to score; None scores all that the detector knows.
        backend: ``"faster-coco-eval"`` gives the same figures sooner, if it is installed.

    Raises:
        FileNotFoundError: there is no such annotation file.
        ValueError: the file is unusable, shares no class with the detector, or a class to be scored
            is not among those in common.
    """

    def __init__(
        self,
        annotation_file: str | Path,
        categories: Categories | None = None,
        *,
        scored_ids: Iterable[int] | None = None,
        backend: Backend = "pycocotools",
    ) -> None:
        self.ground_truth = read_ground_truth(annotation_file)
        self.backend: Backend = backend
        known = self.ground_truth.categories
        self._to_category = match_categories(categories or known, known)
        common = set(self._to_category.tolist()) - {UNKNOWN}
        self.scored_ids = tuple(sorted(common if scored_ids is None else set(scored_ids)))
        if missing := sorted(set(self.scored_ids) - common):
            raise ValueError(
                f"{annotation_file}: cannot score category ids {missing}; the detector and the "
                f"data set have {sorted(common)} in common"
            )
        if scored_ids is None and (unscored := sorted(set(known.ids) - common)):
            logger.warning("not scored, unknown to the detector: category ids %s", unscored)
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self._rows: list[Rows] = []
        self._seen: dict[int, None] = {}
        self.unknown_class = 0  # detections of classes that the data set lacks
        self.not_finite = 0  # detections with NaN or infinite numbers

    def update(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> None:
        """Adds the detections of some images; an image that was already added is passed over.

        Raises:
            ValueError: an image id that the annotation file does not have.
        """
        self._check_known(image_ids)
        for image_id, found in zip(image_ids, detections, strict=True):
            if image_id in self._seen:
                continue
            self._seen[image_id] = None
            rows = _rows_of(image_id, found, self._to_category)
            finite = np.isfinite(rows).all(axis=1)
            known = rows[:, 6] != UNKNOWN
            self.not_finite += int((~finite).sum())
            self.unknown_class += int((finite & ~known).sum())
            self._rows.append(rows[finite & known])

    def update_results(self, results: str | Path | Sequence[Mapping[str, Any]]) -> None:
        """Adds detections in COCO's results format; every image of the file counts as shown.

        Args:
            results: a file, or its content: image_id, category_id, bbox as [x, y, width, height],
                score.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not in that format, or has an image id that the annotation file
                lacks.
        """
        found = read_results(results) if isinstance(results, (str, Path)) else results
        self._check_known([result["image_id"] for result in found])
        known = set(self.ground_truth.categories.ids)
        rows = [[r["image_id"], *r["bbox"], r["score"], r["category_id"]] for r in found]
        kept = [row for row in rows if row[6] in known]
        self.unknown_class += len(rows) - len(kept)
        self._rows.append(np.array(kept, dtype=np.float64).reshape(-1, 7))
        self._seen.update(dict.fromkeys(self.ground_truth.images))

    def compute(self) -> CocoMetrics:
        """Scores the images added so far, on all processes together.

        Every process of a distributed run must call this; all get the same figures.
        """
        rows, seen = self._gathered()
        share: list[CocoMetrics | None] = [None]
        if not _is_distributed() or distributed.get_rank() == 0:
            total = len(self.ground_truth.images)
            if len(seen) < total:
                logger.info("partial evaluation: %d of %d images", len(seen), total)
            share = [score_rows(rows, self.ground_truth, seen, self.scored_ids, self.backend)]
        if _is_distributed():
            distributed.broadcast_object_list(share, src=0)
        (metrics,) = share
        assert metrics is not None
        return metrics

    def results(self) -> list[dict[str, Any]]:
        """This process's detections in COCO's results format, unrounded: they score the same."""
        return [
            {
                "image_id": int(row[0]),
                "category_id": int(row[6]),
                "bbox": row[1:5].tolist(),
                "score": float(row[5]),
            }
            for row in np.concatenate([np.zeros((0, 7)), *self._rows])
        ]

    def save_results(self, path: str | Path) -> None:
        """Writes `results` as JSON."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.results()), encoding="utf-8")

    def diagnose(self) -> list[str]:
        """What may be wrong when AP is next to nothing; one sentence each."""
        rows, seen = self._gathered()
        remarks = diagnose(rows, self.ground_truth, seen)
        if self.unknown_class:
            count = self.unknown_class
            remarks.append(f"{count} detections are of classes that the data set does not have")
        if self.not_finite:
            remarks.append(f"{self.not_finite} detections have NaN or infinite numbers")
        return remarks

    @property
    def image_count(self) -> int:
        """How many images this process was shown."""
        return len(self._seen)

    def _check_known(self, image_ids: Sequence[int]) -> None:
        unknown = sorted(set(image_ids) - self.ground_truth.images.keys())
        if unknown:
            raise ValueError(
                f"{self.ground_truth.path} has no images {unknown[:5]}: {len(unknown)} of "
                f"{len(set(image_ids))} image ids are unknown; detections of another data set?"
            )

    def _gathered(self) -> tuple[Rows, list[int]]:
        rows = np.concatenate([np.zeros((0, 7)), *self._rows])
        parts = [(rows, list(self._seen))]
        if _is_distributed():
            received: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(received, parts[0])
            parts = received
        return _join(parts)


def _rows_of(image_id: int, found: Detections, to_category: NDArray[np.int64]) -> Rows:
    """[N, 7]: image id, x, y, width, height, score, category id."""
    boxes = found.boxes.detach().to("cpu", torch.float64).numpy()
    rows = np.empty((len(found), 7))
    rows[:, 0] = image_id
    rows[:, 1:3] = boxes[:, :2]
    rows[:, 3:5] = boxes[:, 2:] - boxes[:, :2]
    rows[:, 5] = found.scores.detach().cpu().numpy()
    rows[:, 6] = to_category[found.labels.detach().cpu().numpy()]
    return rows


def _join(parts: Sequence[tuple[Rows, list[int]]]) -> tuple[Rows, list[int]]:
    """Rows of all processes; an image counts where it was first seen."""
    rows: list[Rows] = [np.zeros((0, 7))]
    seen: dict[int, None] = {}
    for part, images in parts:
        fresh = [image_id for image_id in images if image_id not in seen]
        rows.append(part[np.isin(part[:, 0], fresh)])
        seen.update(dict.fromkeys(fresh))
    return np.concatenate(rows), list(seen)


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
