"""What each experiment's network costs: parameters, multiply-adds, time for one picture."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from igcv3det.ablation.plan import Experiment, Plan
from igcv3det.ablation.runs import write_whole
from igcv3det.classification.networks import build_network
from igcv3det.measurement.complexity import count_multiply_adds, count_parameters
from igcv3det.measurement.latency import time_in_turn
from igcv3det.models.execution import set_execution

ROUNDS = 30


class Cost(NamedTuple):
    """Of one network.

    Attributes:
        parameters: number of them.
        multiply_adds: of one picture.
        latency_ms: median time of one picture on the CPU, all networks in turn; None unmeasured.
    """

    parameters: int
    multiply_adds: int
    latency_ms: float | None


def measure_costs(
    plan: Plan, file: Path, *, timed: bool = True, rounds: int = ROUNDS
) -> dict[str, Cost]:
    """Counts and times every experiment's network.

    Args:
        plan: whose.
        file: keeps the times for as long as the networks, the threads and PyTorch stay the same.
        timed: measure what the file does not have; else it is left out.
        rounds: how often each network is timed.

    Returns:
        Name of the experiment to its costs.
    """
    networks = {e.name: build_network(plan.classifier(e)) for e in plan.experiments}
    sizes = {e.name: (1, 3, *[plan.classifier(e).image_size] * 2) for e in plan.experiments}
    key = _key(plan)
    times = _read(file, key)
    if timed and times.keys() != networks.keys():
        trained = {e.name: _as_trained(plan, e) for e in plan.experiments}
        times = _time(trained, sizes, rounds)
        write_whole(file, json.dumps({"key": key, "latency_ms": times}, indent=1))
    return {
        name: Cost(
            count_parameters(network),
            count_multiply_adds(network, sizes[name]),
            times.get(name),
        )
        for name, network in networks.items()
    }


def _as_trained(plan: Plan, experiment: Experiment) -> nn.Module:
    """In execution and memory layout; the fast execution writes zeros out, so it is not counted."""
    model = plan.settings(experiment)["model"]
    network = build_network(plan.classifier(experiment)).eval()
    set_execution(network, model.get("execution", "reference"))
    if model.get("channels_last", False):
        network.to(memory_format=torch.channels_last)
    return network


def _time(
    networks: Mapping[str, nn.Module], sizes: Mapping[str, Sequence[int]], rounds: int
) -> dict[str, float]:
    images = {
        name: torch.zeros(*sizes[name]).normal_().contiguous(memory_format=torch.channels_last)
        for name in networks
    }
    with torch.inference_mode():
        calls = {name: lambda n=net, x=images[name]: n(x) for name, net in networks.items()}
        return {timing.name: timing.median_ms for timing in time_in_turn(calls, rounds)}


def _key(plan: Plan) -> str:
    described = [
        (e.name, dataclasses.asdict(plan.classifier(e)), plan.settings(e)["model"].get("execution"))
        for e in plan.experiments
    ]
    text = json.dumps([described, torch.get_num_threads(), torch.__version__], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _read(file: Path, key: str) -> dict[str, float]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    times: dict[str, float] = content["latency_ms"] if content.get("key") == key else {}
    return times
