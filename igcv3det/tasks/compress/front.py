"""From the judged candidates to networks on the front: choice, assembly, measurement, files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from igcv3det.engine.norm_statistics import restore_statistics
from igcv3det.models.igcv3 import TAP_STAGE
from igcv3det.tasks.compress.assembly import assemble, chosen_design, finish
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.choice import Option, choose, least_cost
from igcv3det.tasks.compress.features import FeatureStore, network_inputs, read_fisher
from igcv3det.tasks.compress.price import Pricer
from igcv3det.tasks.compress.search import MEASURES, Budgets, Search
from igcv3det.tasks.compress.training import PartLoss, PartTraining

_CORRECTIONS = 3
_STATISTICS_IMAGES = 128
_SLACK = 0.003  # of the original's latency, for the noise of a measurement
FRONT_STEPS = 24
"""Budgets between the least and 1 at which the front is drawn."""


class Point(NamedTuple):
    """A network on the front.

    Attributes:
        budgets: what it was chosen for, by measure.
        chosen: a candidate for each position.
        costs: predicted, by measure, as shares of the original's.
        loss: sum of the candidates' divergences, nats for an image.
    """

    budgets: Budgets
    chosen: dict[str, Candidate]
    costs: dict[str, float]
    loss: float

    @property
    def name(self) -> str:
        """Name of its file: measures and shares."""
        return _name(self.budgets)


def choose_point(search: Search, budgets: Budgets) -> Point:
    """The network of least loss within the budgets.

    Raises:
        ValueError: no combination keeps them; the message names the least.
    """
    by_position = search.options_by_position()
    positions = [[option for _, option in own] for own in by_position.values()]
    indices = choose(positions, budgets)
    return _point(budgets, [own[i] for own, i in zip(by_position.values(), indices, strict=True)])


def recorded_point(search: Search, budgets: Budgets, finishing: PartTraining) -> Point | None:
    """The choice of an earlier call, which timed the networks: timing again may choose another.

    Args:
        search: done, or not: then only the record is checked.
        budgets: of the network.
        finishing: as for `write_point`.

    Raises:
        ValueError: its file was made with other options, or by something else.
    """
    name = f"{search.prefix}{_name(budgets)}"
    path = search.options.folder / f"{name}.safetensors"
    record = search.folder.read(_record(name))
    wanted = _made_by(search, finishing)
    differing = [k for k, v in wanted.items() if record.get("made_by", {}).get(k) != v]
    if path.is_file() and not record:
        raise ValueError(f"{path}: not made by this search; move it away")
    if path.is_file() and differing:
        raise ValueError(
            f"{path}: made with {differing[0]} {record['made_by'].get(differing[0])}, not "
            f"{wanted[differing[0]]}; move it away, or choose another folder"
        )
    if not record or differing or not search.losses:
        return None
    pairs = [
        pair
        for own in search.options_by_position().values()
        for pair in own
        if record["chosen"].get(pair[0].position) == pair[0].key
    ]
    return _point(budgets, pairs) if len(pairs) == len(search.candidates) else None


def _point(budgets: Budgets, pairs: Sequence[tuple[Candidate, Option]]) -> Point:
    chosen = {c.position: c for c, _ in pairs}
    costs = {m: 1 + sum(option.costs[m] for _, option in pairs) for m in MEASURES}
    return Point(budgets, chosen, costs, sum(option.loss for _, option in pairs))


def _name(budgets: Budgets) -> str:
    return "-".join(f"{m.replace('_', '-')}{share:g}" for m, share in budgets.items())


def _record(name: str) -> str:
    return f"detectors/{name}.json"


def _made_by(search: Search, finishing: PartTraining) -> dict[str, object]:
    options = search.options
    return {"backend": options.runtime, "threads": options.threads, **asdict(finishing)}


def choose_measured(search: Search, budgets: Budgets) -> Point:
    """As `choose_point`, with the measured latency of the whole network within its budget.

    Where the sum of the parts' latencies promises too much or too little, the choice is repeated
    with a budget that is corrected by the difference.

    Raises:
        ValueError: as `choose_point`.
    """
    point = choose_point(search, budgets)
    if "latency" not in budgets:
        return point
    wanted = corrected = budgets["latency"]
    best: Point | None = None
    for _ in range(_CORRECTIONS):
        (share,) = measured_shares(search, [point])
        search.say(f"{point.name}: latency {share:.3f}, predicted {point.costs['latency']:.3f}")
        if share <= wanted and (best is None or point.loss < best.loss):
            best = point
        difference = wanted - share - _SLACK
        if abs(difference) < _SLACK:
            break
        corrected += difference
        try:
            closer = choose_point(search, {**budgets, "latency": corrected})
        except ValueError:
            break
        point = closer._replace(budgets=budgets)
    return best or point


def front(search: Search, measure: str) -> list[Point]:
    """Points from the least share of a measure to the original's."""
    positions = [[o for _, o in own] for own in search.options_by_position().values()]
    least = least_cost(positions, measure)
    shares = [least + (1 - least) * n / FRONT_STEPS for n in range(FRONT_STEPS + 1)]
    return [choose_point(search, {measure: share + 1e-6}) for share in shares]


def write_point(search: Search, point: Point, finishing: PartTraining, folder: Path) -> Path:
    """Assembles a point, finishes its parts and writes the network, unless that is done.

    Returns:
        The file.
    """
    name = f"{search.prefix}{point.name}"
    path = folder / f"{name}.safetensors"
    if path.is_file():
        return path
    finished = search.work / "detectors" / name
    made = {
        "made_by": _made_by(search, finishing),
        "chosen": {position: c.key for position, c in point.chosen.items()},
    }
    if search.folder.read(_record(name)) != made:
        shutil.rmtree(finished, ignore_errors=True)
        search.folder.write(_record(name), made)
    search.say(f"{path.name}: assembling")
    torch.set_num_threads(search.options.workers)
    teacher, store = search.teacher, FeatureStore(search.work / "train")
    files = {c.key: search.file_of(c) for c in point.chosen.values()}
    network, order = assemble(teacher, point.chosen, files)
    loss = PartLoss(teacher, store, read_fisher(search.work))
    finish(
        network,
        teacher,
        point.chosen,
        loss,
        store,
        finishing,
        tap_order=order,
        finished=finished,
        progress=lambda position: search.say(f"{path.name}: finishing {position}"),
    )
    _restore_norms(search, network)
    source = f"compressed from {search.options.checkpoint} by igcv3det compress"
    teacher.save(network, path, source)
    shutil.rmtree(finished, ignore_errors=True)
    return path


def _restore_norms(search: Search, network: nn.Module) -> None:
    """Gives the norms, which were folded, their inputs' statistics; the function stays the same.

    Training with a batch's statistics, as fine-tuning does, would else start from another function.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    rows = range(min(_STATISTICS_IMAGES, len(search.cache)))
    restore_statistics(network, norms, network_inputs(search.teacher, search.cache.pixels, rows))


def measured_shares(search: Search, points: Sequence[Point]) -> list[float]:
    """Latency of whole networks as shares of the original's, timed in turn."""
    teacher = search.teacher
    options = search.options
    pricer = Pricer(teacher, options.backend, options.threads, options.precision)
    designs = [pricer.original, *(chosen_design(teacher, point.chosen) for point in points)]
    whole, *others = pricer.whole(designs)
    return [milliseconds / whole for milliseconds in others]


def unchanged_parts(search: Search, point: Point) -> list[str]:
    """The leading parts that are the original's, as ``model.distillation.frozen`` takes them.

    At most those before the stage of the fine map: later ones adapt to the heads.
    """
    stages = {"stem": ["stem"]}
    for number, block in enumerate(search.teacher.blocks):
        if block.stage <= TAP_STAGE:
            stages.setdefault(f"stage{block.stage}", []).append(f"block{number}")
    replaced = {p for p, candidate in point.chosen.items() if not candidate.is_original}
    return list(takewhile(lambda name: not replaced & set(stages[name]), stages))


def describe_point(point: Point, measured: float | None) -> dict[str, Any]:
    """Plain values of a point for the report."""
    replaced = {p: c.name for p, c in point.chosen.items() if not c.is_original}
    return {
        "name": point.name,
        "budgets": dict(point.budgets),
        "predicted": point.costs,
        "measured_latency": measured,
        "loss": point.loss,
        "replaced": replaced,
    }
