"""Detectors side by side: what they cost, and how long they take in turn in one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import torch
from torch import Tensor

from igcv3det.detector import SSDLite, build_detector
from igcv3det.fastpath.deploy import deploy
from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.measure.latency import ratios, time_in_turn
from igcv3det.runtime import ExportedDetector


class ComparisonRow(TypedDict):
    """One detector.

    ``latency_ms`` is the median time of the network alone, deployed, for one image;
    ``latency_ratio`` that time over the first detector's; AP is None where it was not measured.
    Parameters and multiply-adds are those of the network as it is defined: an exported file may
    have folded some away, or have written zeros out.
    """

    name: str
    parameters: int
    multiply_adds: int
    latency_ms: float
    latency_ratio: float
    AP: float | None


def compare(
    detectors: Mapping[str, SSDLite | ExportedDetector],
    average_precisions: Mapping[str, float | None] | None = None,
    *,
    rounds: int = 20,
    threads: int = 2,
) -> list[ComparisonRow]:
    """Counts and times detectors on the CPU, each at its own input size.

    Args:
        detectors: name to detector, in evaluation mode, on the CPU; exported ones use the threads
            that they were loaded with.
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
            images = {n: _input(d) for n, d in detectors.items()}
            fast = {n: _deployed(d) for n, d in detectors.items()}
            calls = {n: lambda d=d, n=n: d(images[n]) for n, d in fast.items()}
            timings = time_in_turn(calls, rounds)
    finally:
        torch.set_num_threads(before)
    networks = {name: _network(detector) for name, detector in detectors.items()}
    return [
        ComparisonRow(
            name=timing.name,
            parameters=count_parameters(networks[timing.name]),
            multiply_adds=count_multiply_adds(
                networks[timing.name], _input_size(networks[timing.name])
            ),
            latency_ms=timing.median_ms,
            latency_ratio=ratio,
            AP=(average_precisions or {}).get(timing.name),
        )
        for timing, ratio in zip(timings, ratios(timings), strict=True)
    ]


def _network(detector: SSDLite | ExportedDetector) -> SSDLite:
    if isinstance(detector, ExportedDetector):
        return build_detector(detector.config, detector.categories).eval()
    return detector


def _deployed(detector: SSDLite | ExportedDetector) -> SSDLite | ExportedDetector:
    """As a predictor runs it."""
    return detector if isinstance(detector, ExportedDetector) else deploy(detector, "torch")


def _input(detector: SSDLite | ExportedDetector) -> Tensor:
    if isinstance(detector, ExportedDetector):
        return detector.example_input()
    return torch.zeros(_input_size(detector)).normal_()


def _input_size(detector: SSDLite) -> tuple[int, int, int, int]:
    size = detector.config.image_size
    return 1, 3, size, size
