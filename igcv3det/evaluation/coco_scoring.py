"""From detections and ground truth to COCO's figures, by pycocotools or faster-coco-eval.

The figures are means over the tables of precision and recall that both backends leave, as in
pycocotools' own ``summarize``.
"""

from __future__ import annotations

import contextlib
import gc
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.record import AnnotationRecord
from igcv3det.evaluation.rows import DetectionRows

Backend = Literal["pycocotools", "faster-coco-eval"]

SUMMARY_NAMES = (
    *("AP", "AP50", "AP75", "APs", "APm", "APl"),
    *("AR1", "AR10", "AR100", "ARs", "ARm", "ARl"),
)


class ClassMetrics(TypedDict):
    """Figures of one class; NaN where there is no ground truth."""

    category_id: int
    AP: float
    AP50: float
    AR100: float
    ground_truths: int
    detections: int


class CocoMetrics(TypedDict):
    """COCO's twelve figures in 0..1, NaN where there is no ground truth (-1 in pycocotools)."""

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: dict[str, ClassMetrics]


def score_rows(
    rows: DetectionRows,
    truth: AnnotationRecord,
    image_ids: Sequence[int],
    scored_ids: Sequence[int],
    backend: Backend = "pycocotools",
) -> CocoMetrics:
    """COCO's figures of some images and classes.

    Args:
        rows: detections in any images.
        truth: the annotations.
        image_ids: of the images that count, with detections or without.
        scored_ids: category ids that count.
        backend: the library that matches and sorts.

    Raises:
        ImportError: the backend is not installed.
    """
    image_ids, scored_ids = sorted(image_ids), sorted(scored_ids)
    if not image_ids or not scored_ids:
        empty = dict.fromkeys(SUMMARY_NAMES, math.nan)
        return cast(CocoMetrics, {**empty, "per_class": {}})
    precision, recall = _evaluate(rows, truth, image_ids, scored_ids, backend)
    summary = dict(zip(SUMMARY_NAMES, _summary(precision, recall), strict=True))
    is_object = np.isin(truth.images.ids, image_ids)[truth.image_rows] & ~truth.is_crowd
    objects = np.bincount(truth.labels[is_object], minlength=len(truth.categories) + 1).tolist()
    per_class: dict[str, ClassMetrics] = {}
    for index, category_id in enumerate(scored_ids):
        label = truth.categories.ids.index(category_id) + 1
        name = truth.categories.names[label - 1]
        per_class[name if name not in per_class else f"{name} ({category_id})"] = ClassMetrics(
            category_id=category_id,
            AP=_mean(precision[:, :, index, 0, 2]),
            AP50=_mean(precision[0, :, index, 0, 2]),
            AR100=_mean(recall[:, index, 0, 2]),
            ground_truths=objects[label],
            detections=int((rows.category_ids == category_id).sum()),
        )
    return cast(CocoMetrics, {**summary, "per_class": per_class})


def metrics_as_json(metrics: CocoMetrics) -> dict[str, Any]:
    """The same figures with None (``null``) where there is no ground truth: JSON knows no NaN."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    return {key: plain(value) for key, value in metrics.items()}


def _evaluate(
    rows: DetectionRows,
    truth: AnnotationRecord,
    image_ids: Sequence[int],
    scored_ids: Sequence[int],
    backend: Backend,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision [T, R, K, A, M] and recall [T, K, A, M]; -1 where there is no ground truth."""
    # pycocotools reports its progress on standard output
    with contextlib.redirect_stdout(io.StringIO()), _without_garbage_collection():
        evaluation = coco_evaluation(rows, truth, image_ids, scored_ids, backend)
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Both libraries take a dictionary a box, among which there are no cycles.

    To look for some takes a quarter of the time of faster-coco-eval.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def coco_evaluation(
    rows: DetectionRows,
    truth: AnnotationRecord,
    image_ids: Sequence[int],
    scored_ids: Sequence[int],
    backend: Backend = "pycocotools",
) -> Any:  # noqa: ANN401
    """The backend's ``COCOeval``, ready to evaluate; it writes to standard output.

    Its detections and annotations have their row in ``rows`` and ``truth`` plus one as ids.

    Args:
        rows: as of `score_rows`, and so are the others.
        truth: the annotations.
        image_ids: ascending.
        scored_ids: ascending.
        backend: the library.
    """
    image_numbers = _Numbers(truth.images.ids)
    category_numbers = _Numbers(np.array(truth.categories.ids, dtype=np.int64))
    images = [{"id": number} for number in image_numbers.all]
    categories = [{"id": number} for number in category_numbers.all]
    annotations = _annotations(truth, image_numbers, category_numbers)
    results = _results(rows, image_numbers, category_numbers)
    coco, coco_eval = _backend(backend)
    sides = []
    for entries in (annotations, results):
        side = coco()
        side.dataset = {"images": images, "categories": categories, "annotations": entries}
        side.createIndex()
        sides.append(side)
    evaluation = coco_eval(*sides, "bbox")
    evaluation.params.imgIds = image_numbers.of(np.array(image_ids))
    evaluation.params.catIds = category_numbers.of(np.array(scored_ids))
    return evaluation


class _Numbers:
    """Ids numbered from 1 in ascending order: faster-coco-eval takes ids through a float.

    The order is kept because it decides between detections of equal score.
    """

    def __init__(self, ids: NDArray[np.int64]) -> None:
        self._sorted = np.sort(ids)
        self.all = list(range(1, len(ids) + 1))

    def of(self, ids: NDArray[np.int64]) -> list[int]:
        """The number of each of some ids."""
        numbers: list[int] = (np.searchsorted(self._sorted, ids) + 1).tolist()
        return numbers


def _annotations(
    truth: AnnotationRecord, images: _Numbers, categories: _Numbers
) -> list[dict[str, Any]]:
    """The annotations as COCO's JSON has them.

    They are numbered: pycocotools overwrites annotations that share an id and takes a match with id
    0 for none.
    """
    category_ids = np.array(truth.categories.ids, dtype=np.int64)[truth.labels - 1]
    return [
        {
            "id": index,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": area,
            "iscrowd": is_crowd,
        }
        for index, (image, category, box, area, is_crowd) in enumerate(
            zip(
                images.of(truth.images.ids[truth.image_rows]),
                categories.of(category_ids),
                truth.boxes.tolist(),
                truth.areas.tolist(),
                truth.is_crowd.astype(int).tolist(),
                strict=True,
            ),
            start=1,
        )
    ]


def _results(rows: DetectionRows, images: _Numbers, categories: _Numbers) -> list[dict[str, Any]]:
    """The detections with the fields that ``COCO.loadRes`` would add."""
    return [
        {
            "id": index,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],
            "score": score,
            "iscrowd": 0,
        }
        for index, (image, category, box, score) in enumerate(
            zip(
                images.of(rows.image_ids),
                categories.of(rows.category_ids),
                rows.boxes.tolist(),
                rows.scores.tolist(),
                strict=True,
            ),
            start=1,
        )
    ]


def _backend(name: Backend) -> tuple[Any, Any]:
    """The classes of ground truth and of evaluation; imported late, as few callers need them."""
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    if name == "faster-coco-eval":
        try:
            import faster_coco_eval
        except ImportError as error:
            raise ImportError(
                "backend 'faster-coco-eval' is not installed: pip install 'igcv3det[fast-eval]'"
            ) from error
        return faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster
    raise ValueError(f"backend must be 'pycocotools' or 'faster-coco-eval', got {name!r}")


def _summary(precision: NDArray[np.float64], recall: NDArray[np.float64]) -> list[float]:
    """The twelve figures; IoU .50 and .75 are the first and sixth, 100 detections the last."""
    return [
        _mean(precision[..., 0, 2]),
        _mean(precision[0, ..., 0, 2]),
        _mean(precision[5, ..., 0, 2]),
        *(_mean(precision[..., area, 2]) for area in (1, 2, 3)),
        *(_mean(recall[..., 0, most]) for most in (0, 1, 2)),
        *(_mean(recall[..., area, 2]) for area in (1, 2, 3)),
    ]


def _mean(values: NDArray[np.float64]) -> float:
    valid = values[values > -1]
    return float(valid.mean()) if valid.size else math.nan
