"""Detectors side by side: what they cost, and how long they take in turn in one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import torch

from igcv3det.detector import SSDLite
from igcv3det.measurement.complexity import count_multiply_adds, count_parameters
from igcv3det.measurement.latency import ratios, time_in_turn


class ComparisonRow(TypedDict):
    """One detector.

    ``latency_ms`` is the median time of the network alone for one image; ``latency_ratio`` that
    time over the first detector's; AP is None where it was not measured.
    """

    name: str
    parameters: int
    multiply_adds: int
    latency_ms: float
    latency_ratio: float
    AP: float | None


def compare(
    detectors: Mapping[str, SSDLite],
    average_precisions: Mapping[str, float | None] | None = None,
    *,
    rounds: int = 20,
    threads: int = 2,
) -> list[ComparisonRow]:
    """Counts and times detectors on the CPU, each at its own input size.

    Args:
        detectors: name to detector, in evaluation mode, on the CPU.
        average_precisions: name to AP, where known.
        rounds: how often each is timed.
        threads: for PyTorch; the number set before is put back.

    Raises:
        ValueError: no detectors, or rounds or threads below 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be >= 1, got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            images = {n: torch.zeros(_input_size(d)).normal_() for n, d in detectors.items()}
            calls = {n: lambda d=d, n=n: d(images[n]) for n, d in detectors.items()}
            timings = time_in_turn(calls, rounds)
    finally:
        torch.set_num_threads(before)
    return [
        ComparisonRow(
            name=timing.name,
            parameters=count_parameters(detectors[timing.name]),
            multiply_adds=count_multiply_adds(
                detectors[timing.name], _input_size(detectors[timing.name])
            ),
            latency_ms=timing.median_ms,
            latency_ratio=ratio,
            AP=(average_precisions or {}).get(timing.name),
        )
        for timing, ratio in zip(timings, ratios(timings), strict=True)
    ]


def _input_size(detector: SSDLite) -> Sequence[int]:
    size = detector.config.image_size
    return 1, 3, size, size
