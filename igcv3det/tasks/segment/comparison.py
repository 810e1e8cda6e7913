"""Compares segmenters: parameters, multiply-adds, latency in turn, and mIoU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

from igcv3det.measure.comparison import time_networks
from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.tasks.segment.benchmark import segmenter_call
from igcv3det.tasks.segment.exported import ExportedSegmenter
from igcv3det.tasks.segment.network import Segmenter


class SegmenterRow(TypedDict):
    """One segmenter, as `igcv3det.measure.comparison.ComparisonRow` with mIoU in place of AP."""

    name: str
    parameters: int
    multiply_adds: int
    latency_ms: float
    latency_ratio: float
    mIoU: float | None


def compare_networks(
    segmenters: Mapping[str, Segmenter | ExportedSegmenter],
    mious: Mapping[str, float | None],
    *,
    rounds: int = 20,
    threads: int = 2,
) -> list[SegmenterRow]:
    """Counts and times segmenters on the CPU, each at its own input size.

    Args:
        segmenters: by name, in evaluation mode; exported ones use the threads that they were
            loaded with.
        mious: mIoU by name, where known.
        rounds: durations of each segmenter.
        threads: of PyTorch; the previous number is restored.

    Raises:
        ValueError: no segmenters, or rounds or threads below 1.
    """
    rows = []
    for timing, ratio in time_networks(segmenters, segmenter_call, rounds, threads):
        network = segmenters[timing.name]
        if isinstance(network, ExportedSegmenter):
            network = Segmenter(network.config, network.classes.names).eval()
        rows.append(
            SegmenterRow(
                name=timing.name,
                parameters=count_parameters(network),
                multiply_adds=count_multiply_adds(network, (1, 3, *network.config.image_size)),
                latency_ms=timing.median_ms,
                latency_ratio=ratio,
                mIoU=mious.get(timing.name),
            )
        )
    return rows
