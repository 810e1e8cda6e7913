"""From detections and ground truth to COCO's figures: pycocotools, or a faster equal of it.

The figures are read off the tables of precision and recall that both backends leave, the way
pycocotools' own ``summarize`` prints them.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from igcv3det.datasets.ground_truth import GroundTruth

Backend = Literal["pycocotools", "faster-coco-eval"]
Rows = NDArray[np.float64]

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
    """COCO's twelve figures in 0..1, NaN where there is no ground truth (pycocotools says -1)."""

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
    rows: Rows,
    truth: GroundTruth,
    seen: Sequence[int],
    scored_ids: Sequence[int],
    backend: Backend = "pycocotools",
) -> CocoMetrics:
    """COCO's figures of some images and classes.

    Args:
        rows: [N, 7] detections: image id, x, y, width, height, score, category id.
        truth: what there is to find.
        seen: ids of the images that count, with detections or without.
        scored_ids: category ids that count.
        backend: who matches and sorts.

    Raises:
        ImportError: the backend is not installed.
    """
    seen, scored_ids = sorted(seen), sorted(scored_ids)
    if not seen or not scored_ids:
        empty = dict.fromkeys(SUMMARY_NAMES, math.nan)
        return cast(CocoMetrics, {**empty, "per_class": {}})
    precision, recall = _evaluate(rows, truth, seen, scored_ids, backend)
    shown = set(seen)
    objects = Counter(
        a["category_id"] for a in truth.annotations if a["image_id"] in shown and not a["iscrowd"]
    )
    found = Counter(rows[:, 6].astype(np.int64).tolist())
    names = dict(zip(truth.categories.ids, truth.categories.names, strict=True))
    per_class: dict[str, ClassMetrics] = {}
    for index, category_id in enumerate(scored_ids):
        name = names[category_id]
        per_class[name if name not in per_class else f"{name} ({category_id})"] = ClassMetrics(
            category_id=category_id,
            AP=_mean(precision[:, :, index, 0, 2]),
            AP50=_mean(precision[0, :, index, 0, 2]),
            AR100=_mean(recall[:, index, 0, 2]),
            ground_truths=objects[category_id],
            detections=found[category_id],
        )
    summary = dict(zip(SUMMARY_NAMES, _summary(precision, recall), strict=True))
    return cast(CocoMetrics, {**summary, "per_class": per_class})


def metrics_as_json(metrics: CocoMetrics) -> dict[str, Any]:
    """The same figures with None (``null``) where there is no ground truth: JSON knows no NaN."""

    def plain(value: Any) -> Any:  # noqa: ANN401
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return None if isinstance(value, float) and math.isnan(value) else value

    return {key: plain(value) for key, value in metrics.items()}


def _evaluate(
    rows: Rows, truth: GroundTruth, seen: Sequence[int], scored_ids: Sequence[int], backend: Backend
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tables of precision [T, R, K, A, M] and recall [T, K, A, M]; -1 where nothing is to find."""
    images = [{"id": image_id} for image_id in truth.images]
    categories = [{"id": category_id} for category_id in truth.categories.ids]
    found = [
        {
            "id": index + 1,
            "image_id": int(row[0]),
            "category_id": int(row[6]),
            "bbox": row[1:5].tolist(),
            "area": float(row[3] * row[4]),
            "score": float(row[5]),
            "iscrowd": 0,
        }
        for index, row in enumerate(rows)
    ]
    coco, coco_eval = _backend(backend)
    # pycocotools reports its progress on standard output
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for annotations in ([dict(a) for a in truth.annotations], found):
            side = coco()
            side.dataset = {"images": images, "categories": categories, "annotations": annotations}
            side.createIndex()
            sides.append(side)
        evaluation = coco_eval(*sides, "bbox")
        evaluation.params.imgIds = list(seen)
        evaluation.params.catIds = list(scored_ids)
        evaluation.evaluate()
        evaluation.accumulate()
    return np.asarray(evaluation.eval["precision"]), np.asarray(evaluation.eval["recall"])


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
