"""Cost of each experiment's network: parameters, multiply-adds, latency and training speed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional as F

from igcv3det.atomic_files import atomic_write
from igcv3det.config import OptimConfig, config_from_dict
from igcv3det.engine.optim import build_optimizer
from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.measure.complexity import count_multiply_adds, count_parameters
from igcv3det.measure.latency import time_in_turn
from igcv3det.measure.machine import describe_machine
from igcv3det.tasks.classify.networks import build_network
from research.ablation.plan import Experiment, Plan, with_hashed_names

ROUNDS, TRAINING_ROUNDS = 30, 8
DEFAULT_BATCH = 128  # the default of ClassificationDataModule


class Cost(NamedTuple):
    """Cost of one network.

    Attributes:
        parameters: number of parameters.
        multiply_adds: multiply-adds for one image.
        latency_ms: median time for one image on the CPU, all networks timed in turn; None if not
            measured.
        images_per_second: training speed by the median step, all networks timed in turn; None if
            not measured.
    """

    parameters: int
    multiply_adds: int
    latency_ms: float | None
    images_per_second: float | None


class Costs(NamedTuple):
    """Costs of all networks of a plan.

    Attributes:
        by_name: cost by name of the experiment.
        measured: date and machine of the measurement; None if nothing was measured.
    """

    by_name: dict[str, Cost]
    measured: str | None


class Speed(NamedTuple):
    """The measured fields of `Cost`."""

    latency_ms: float
    images_per_second: float


def measure_costs(plan: Plan, file: Path, *, timed: bool = True, rounds: int = ROUNDS) -> Costs:
    """Counts parameters and multiply-adds of every experiment's network and times it.

    A training step is forward pass, loss, backward pass and optimizer, at the plan's batch size and
    precision on the training device. It is timed here, all networks in turn, because the load of
    the machine may differ between the runs.

    Args:
        plan: experiments.
        file: stores the times; they are valid for the same networks, threads and PyTorch version.
        timed: measure times that the file does not have; otherwise they are None.
        rounds: timings of each network; of a training step at most 8.
    """
    networks = {e.name: build_network(plan.classifier(e)) for e in plan.experiments}
    key = _key(plan)
    speeds, measured = _read(file, key)
    if timed and speeds.keys() != networks.keys():
        speeds = _time(plan, rounds)
        measured = f"{datetime.now(UTC).date().isoformat()}, {describe_machine()}"
        content = {
            "key": key,
            "measured": measured,
            "speeds": {name: speed._asdict() for name, speed in speeds.items()},
        }
        atomic_write(file, json.dumps(content, indent=1))
    sizes = {e.name: (1, 3, *[plan.classifier(e).image_size] * 2) for e in plan.experiments}
    costs = {
        name: Cost(
            count_parameters(network),
            count_multiply_adds(network, sizes[name]),
            *speeds.get(name, (None, None)),
        )
        for name, network in networks.items()
    }
    return Costs(costs, measured)


def _time(plan: Plan, rounds: int) -> dict[str, Speed]:
    infer = {e.name: _inference(plan, e) for e in plan.experiments}
    latencies = time_in_turn(infer, rounds)
    trainer = plan.base["trainer"]
    fabric = Fabric(
        accelerator=trainer.get("accelerator", "auto"),
        devices=1,
        precision=trainer.get("precision", "32-true"),
    )
    batches = {
        e.name: plan.settings(e)["data"].get("batch_size", DEFAULT_BATCH) for e in plan.experiments
    }
    train = {e.name: _training_step(plan, e, batches[e.name], fabric) for e in plan.experiments}
    wait = torch.cuda.synchronize if fabric.device.type == "cuda" else None
    steps = time_in_turn(train, min(rounds, TRAINING_ROUNDS), warmup=2, synchronize=wait)
    return {
        latency.name: Speed(latency.median_ms, batches[step.name] / step.median_ms * 1e3)
        for latency, step in zip(latencies, steps, strict=True)
    }


def _inference(plan: Plan, experiment: Experiment) -> Callable[[], object]:
    network = _as_trained(plan, experiment).eval()
    image = _images(plan, experiment, 1)

    def infer() -> object:
        with torch.inference_mode():
            return network(image)

    return infer


def _training_step(
    plan: Plan, experiment: Experiment, batch: int, fabric: Fabric
) -> Callable[[], object]:
    network = _as_trained(plan, experiment).train()
    optim = plan.settings(experiment)["model"].get("optim", {})
    config = config_from_dict(OptimConfig, optim, "model.optim")
    wrapped, optimizer = fabric.setup(network, build_optimizer(network, config, lr=1e-4))
    images = fabric.to_device(_images(plan, experiment, batch))
    labels = torch.arange(batch, device=fabric.device) % plan.classifier(experiment).num_classes

    def step() -> None:
        loss = F.cross_entropy(wrapped(images).float(), labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()

    return step


def _as_trained(plan: Plan, experiment: Experiment) -> nn.Module:
    """The network as the runs train it; not for counting: ``fast`` adds zeros to the weights."""
    model = plan.settings(experiment)["model"]
    network = build_network(plan.classifier(experiment))
    set_conv_impl(network, model.get("conv_impl", model.get("execution", "reference")))
    if model.get("channels_last", False):
        network.to(memory_format=torch.channels_last)
    return network


def _images(plan: Plan, experiment: Experiment, count: int) -> torch.Tensor:
    size = plan.classifier(experiment).image_size
    return torch.randn(count, 3, size, size).contiguous(memory_format=torch.channels_last)


def _key(plan: Plan) -> str:
    networks = []
    for experiment in plan.experiments:
        settings = with_hashed_names(plan.settings(experiment))
        model = {**settings["model"], "classifier": dataclasses.asdict(plan.classifier(experiment))}
        networks.append((experiment.name, model, settings["data"].get("batch_size")))
    trainer = [plan.base["trainer"].get(key) for key in ("accelerator", "precision")]
    machine = [torch.get_num_threads(), torch.cuda.is_available(), torch.__version__]
    text = json.dumps([networks, trainer, machine], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _read(file: Path, key: str) -> tuple[dict[str, Speed], str | None]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, None
    if content.get("key") != key:
        return {}, None
    speeds = {name: Speed(**speed) for name, speed in content["speeds"].items()}
    return speeds, content.get("measured")
