"""COCO's average precision, by pycocotools on the original annotation file.

Detections are collected in the data set's own ids; only images that were added are evaluated, so an
image without detections must be added too. Under distributed training the detections of all
processes are joined, an image that a sampler dealt out twice counts once, and the first process
evaluates.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import distributed

from igcv3det.atomic_files import atomic_write
from igcv3det.datasets.category_map import UNKNOWN, match_categories
from igcv3det.datasets.coco import read_coco
from igcv3det.datasets.issues import ENTRY_KINDS, summarize
from igcv3det.datasets.record import AnnotationRecord, ImageEntry
from igcv3det.datasets.results import parse_result, read_results
from igcv3det.evaluation.analysis import Analysis, analyse
from igcv3det.evaluation.coco_scoring import Backend, CocoMetrics, metrics_as_json, score_rows
from igcv3det.evaluation.diagnosis import diagnose
from igcv3det.evaluation.rows import DetectionRows, concatenate, rows_of_image, rows_of_results
from igcv3det.structures import Categories, Detections

logger = logging.getLogger(__name__)

__all__ = ["SUSPICIOUS_AP", "CocoEvaluator", "CocoMetrics", "metrics_as_json"]

SUSPICIOUS_AP = 1e-3  # below it, something is wrong rather than weak


class ScoredDetections(NamedTuple):
    """Detections of some images.

    Attributes:
        rows: the detections.
        image_ids: of the images, with detections or without.
        metrics: their figures.
    """

    rows: DetectionRows
    image_ids: list[int]
    metrics: CocoMetrics


class CocoEvaluator:
    """Collects detections image by image and scores them.

    Args:
        annotations: an annotation file, or its record; areas and crowds are used as given.
        categories: the detector's classes, matched to the file's by `match_categories`; None when
            detections come in the file's own ids (`update_results`).
        scored_ids: category ids of the file to score; None scores all that the detector knows.
        backend: ``"faster-coco-eval"`` gives the same figures sooner, if it is installed.

    Attributes:
        ground_truth: what the file says.
        left_out: entries of the file that cannot be used.
        unknown_class: detections of classes that the data set does not have.
        not_finite: detections with NaN or infinite numbers.
        scored: what `compute` scored last, in the first process.

    Raises:
        FileNotFoundError: there is no such annotation file.
        ValueError: the file is unusable, shares no class with the detector, or a class to be scored
            is not among those in common.
    """

    def __init__(
        self,
        annotations: str | Path | AnnotationRecord,
        categories: Categories | None = None,
        *,
        scored_ids: Iterable[int] | None = None,
        backend: Backend = "pycocotools",
    ) -> None:
        if isinstance(annotations, (str, Path)):
            annotations = read_coco(annotations)
        self.ground_truth = annotations
        self.backend: Backend = backend
        known = self.ground_truth.categories
        self._category_ids = match_categories(categories or known, known)
        common = set(self._category_ids.tolist()) - {UNKNOWN}
        self.scored_ids = tuple(sorted(common if scored_ids is None else set(scored_ids)))
        if missing := sorted(set(self.scored_ids) - common):
            raise ValueError(
                f"{self.ground_truth.path}: cannot score category ids {missing}; the detector and "
                f"the data set have {sorted(common)} in common"
            )
        if scored_ids is None and (unscored := sorted(set(known.ids) - common)):
            logger.warning("not scored, unknown to the detector: category ids %s", unscored)
        dropped = [issue for issue in self.ground_truth.issues if issue.kind in ENTRY_KINDS]
        if dropped:
            logger.warning(
                "%s; left out of the evaluation", summarize(dropped, self.ground_truth.path)
            )
        self.left_out = len(dropped)
        self.scored: ScoredDetections | None = None
        self._row_of = {number: row for row, number in enumerate(self.image_ids)}
        self.reset()

    @property
    def image_ids(self) -> list[int]:
        """Of all images of the file, in its order."""
        ids: list[int] = self.ground_truth.images.ids.tolist()
        return ids

    @property
    def added_ids(self) -> list[int]:
        """Of the images that were added in this process."""
        return list(self._added)

    @property
    def image_count(self) -> int:
        """How many images were added in this process."""
        return len(self._added)

    def image(self, image_id: int) -> ImageEntry:
        """File name and size of an image."""
        return self.ground_truth.images[self._row_of[image_id]]

    def require_objects(self, image_ids: Sequence[int] | None = None) -> None:
        """Refuses images without a single object to find: their figures are not defined.

        Args:
            image_ids: images that are to be evaluated; None for all of the file.

        Raises:
            ValueError: there is no object; names the file, and what is there instead.
        """
        truth = self.ground_truth
        chosen = self.image_ids if image_ids is None else image_ids
        category_ids = np.array(truth.categories.ids, dtype=np.int64)[truth.labels - 1]
        is_scored = np.isin(category_ids, self.scored_ids)
        is_chosen = np.isin(truth.images.ids, np.array(chosen, dtype=np.int64))[truth.image_rows]
        is_object = ~truth.is_crowd
        if (is_object & is_scored & is_chosen).any():
            return
        others = {
            "crowd regions": int(truth.is_crowd.sum()),
            "objects of classes that are not scored": int((is_object & ~is_scored).sum()),
            "objects in other images": int((is_object & is_scored & ~is_chosen).sum()),
            "unusable entries": self.left_out,
        }
        found = ", ".join(f"{number} {kind}" for kind, number in others.items() if number)
        raise ValueError(
            f"{truth.path}: annotations: not a single object in the {len(chosen)} images that are "
            f"evaluated{f' ({found})' if found else ''}, so there are no figures"
        )

    def reset(self) -> None:
        """Forgets all images."""
        self._rows: list[DetectionRows] = []
        self._added: dict[int, None] = {}
        self.unknown_class = 0
        self.not_finite = 0

    def update(self, image_ids: Sequence[int], detections: Sequence[Detections]) -> None:
        """Adds the detections of some images; an image that was already added is passed over.

        Raises:
            ValueError: an image id that the annotation file does not have.
        """
        self._require_known(image_ids)
        for image_id, found in zip(image_ids, detections, strict=True):
            if image_id not in self._added:
                self._added[image_id] = None
                rows = rows_of_image(image_id, found, self._category_ids)
                self.not_finite += int((~rows.is_finite).sum())
                self._add(rows[rows.is_finite])

    def update_results(self, results: str | Path | Sequence[Mapping[str, Any]]) -> None:
        """Adds detections in COCO's results format; every image of the file counts as added.

        Args:
            results: a file, or its content: image_id, category_id, bbox as [x, y, width, height],
                score.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not in that format, or has an image id that the annotation file
                lacks.
        """
        if isinstance(results, (str, Path)):
            found = read_results(results)
        else:
            found = [parse_result(item, f"results[{i}]") for i, item in enumerate(results)]
        self._require_known([result.image_id for result in found])
        self._add(rows_of_results(found))
        self._added.update(dict.fromkeys(self.image_ids))

    def compute(self) -> CocoMetrics:
        """Scores the images added so far, on all processes together.

        Every process of a distributed run must call this; all get the same figures.
        """
        rows, added = self._gathered()
        share: list[CocoMetrics | None] = [None]
        if not _is_distributed() or distributed.get_rank() == 0:
            total = len(self.ground_truth.images)
            if len(added) < total:
                logger.info("partial evaluation: %d of %d images", len(added), total)
            scored = score_rows(rows, self.ground_truth, added, self.scored_ids, self.backend)
            self.scored = ScoredDetections(rows, added, scored)
            share = [scored]
        if _is_distributed():
            distributed.broadcast_object_list(share, src=0)
        (metrics,) = share
        assert metrics is not None
        return metrics

    def analyse(self) -> Analysis:
        """Curves, confusion matrix and types of errors of what `compute` scored.

        Raises:
            ValueError: nothing was scored, in this process.
        """
        if self.scored is None:
            raise ValueError("analyse follows compute, in the first process")
        rows, image_ids, _ = self.scored
        return analyse(rows, self.ground_truth, image_ids, self.scored_ids)

    def results(self) -> list[dict[str, Any]]:
        """This process's detections in COCO's results format, unrounded: they score the same."""
        return concatenate(self._rows).results()

    def save_results(self, path: str | Path) -> None:
        """Writes `results` as JSON."""
        atomic_write(Path(path), json.dumps(self.results()))

    def diagnose(self) -> list[str]:
        """What may be wrong when AP is close to zero; one sentence each."""
        rows, added = self._gathered()
        remarks = diagnose(rows, self.ground_truth, added, self.unknown_class)
        if self.not_finite:
            remarks.append(f"{self.not_finite} detections have NaN or infinite numbers")
        return remarks

    def _add(self, rows: DetectionRows) -> None:
        is_known = np.isin(rows.category_ids, self.ground_truth.categories.ids)
        self.unknown_class += int((~is_known).sum())
        self._rows.append(rows[is_known])

    def _require_known(self, image_ids: Sequence[int]) -> None:
        unknown = sorted(set(image_ids) - self._row_of.keys())
        if unknown:
            raise ValueError(
                f"{self.ground_truth.path} has no images {unknown[:5]}: {len(unknown)} of "
                f"{len(set(image_ids))} image ids are unknown; detections of another data set?"
            )

    def _gathered(self) -> tuple[DetectionRows, list[int]]:
        parts = [(concatenate(self._rows), list(self._added))]
        if _is_distributed():
            received: list[Any] = [None] * distributed.get_world_size()
            distributed.all_gather_object(received, parts[0])
            parts = received
        return _join(parts)


def _join(parts: Sequence[tuple[DetectionRows, list[int]]]) -> tuple[DetectionRows, list[int]]:
    """Detections of all processes; an image counts where it was first added."""
    rows: list[DetectionRows] = []
    added: dict[int, None] = {}
    for part, images in parts:
        fresh = [image_id for image_id in images if image_id not in added]
        rows.append(part[np.isin(part.image_ids, np.array(fresh, dtype=np.int64))])
        added.update(dict.fromkeys(fresh))
    return concatenate(rows), list(added)


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
