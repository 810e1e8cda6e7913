"""COCO's metrics: detections against an annotation file, scored by pycocotools' rules."""

from igcv3det.evaluation.coco_scoring import SUMMARY_NAMES, CocoMetrics, metrics_as_json
from igcv3det.evaluation.evaluator import SUSPICIOUS_AP, CocoEvaluator

__all__ = ["SUMMARY_NAMES", "SUSPICIOUS_AP", "CocoEvaluator", "CocoMetrics", "metrics_as_json"]
