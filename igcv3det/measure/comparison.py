"""Compares detectors: parameters, multiply-adds, and latency timed in turn in one run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypedDict, TypeVar

import torch

from igcv3det.detector import SSDLite, build_detector
from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.measure.latency import Timing, ratios, time_in_turn
from igcv3det.measure.targets import network_call
from igcv3det.runtime import ExportedDetector

Network = TypeVar("Network")


class ComparisonRow(TypedDict):
    """One detector.

    ``latency_ms`` is the median time of the deployed network alone for one image,
    ``latency_ratio`` that time over the first detector's; AP is None where it was not measured.
    Parameters and multiply-adds are those of the network as defined: an exported file may have
    folded some, or contain zeros in addition.
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
        detectors: by name, in evaluation mode, on the CPU; exported ones use the threads that they
            were loaded with.
        average_precisions: AP by name, where known.
        rounds: durations of each detector.
        threads: of PyTorch; the previous number is restored.

    Raises:
        ValueError: no detectors, or rounds or threads below 1.
    """
    known = average_precisions or {}
    return [
        _row(timing.name, detectors[timing.name], timing.median_ms, ratio, known.get(timing.name))
        for timing, ratio in time_networks(detectors, network_call, rounds, threads)
    ]


def time_networks(
    networks: Mapping[str, Network],
    call: Callable[[Network], Callable[[], object]],
    rounds: int,
    threads: int,
) -> list[tuple[Timing, float]]:
    """Times networks in turn on the CPU.

    Args:
        networks: by name.
        call: makes a call of a network.
        rounds: durations of each.
        threads: of PyTorch; the previous number is restored.

    Returns:
        Each network's timing and its ratio to the first.

    Raises:
        ValueError: no networks, or rounds or threads below 1.
    """
    if threads < 1:
        raise ValueError(f"threads must be >= 1, got {threads}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        timings = time_in_turn({name: call(own) for name, own in networks.items()}, rounds)
    finally:
        torch.set_num_threads(before)
    return list(zip(timings, ratios(timings), strict=True))


def _row(
    name: str,
    detector: SSDLite | ExportedDetector,
    latency_ms: float,
    latency_ratio: float,
    average_precision: float | None,
) -> ComparisonRow:
    if isinstance(detector, ExportedDetector):
        detector = build_detector(detector.config, detector.categories).eval()
    size = detector.config.image_size
    return ComparisonRow(
        name=name,
        parameters=count_parameters(detector),
        multiply_adds=count_multiply_adds(detector, (1, 3, size, size)),
        latency_ms=latency_ms,
        latency_ratio=latency_ratio,
        AP=average_precision,
    )
