r"""Uniform rules beside the search: detectors of the same candidates, chosen without looking.

The search (`igcv3det compress`) must be done; its folder holds the candidates. For each rule, the
search also chooses a detector that is predicted to be as fast. Both are assembled, finished and
judged as a whole on the images that the search has held out; their files can be trained by
`igcv3det distill`.

Example:
    python -m research.compression runs/compress --checkpoint mobilenetv2 --images photos \
        --finish-steps 0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from igcv3det.cli.command import command_parser, run_command
from igcv3det.tasks.compress.features import BATCH, FeatureStore
from igcv3det.tasks.compress.front import Point, choose_point, measured_shares
from igcv3det.tasks.compress.load_teacher import load_teacher
from igcv3det.tasks.compress.network_files import write_point
from igcv3det.tasks.compress.options import MEASURES, SearchOptions
from igcv3det.tasks.compress.parts import IMAGES, run_parts
from igcv3det.tasks.compress.search import Judged, Search
from igcv3det.tasks.compress.training import PartTraining
from igcv3det.tasks.half_floats import from_half

RULES = {
    "groups-2x2": ("groups 2x2",),
    "blocks-0.75": ("hidden 0.75",),
    "blocks-0.5": ("hidden 0.5",),
    "all-0.75": ("hidden 0.75", "channels 0.75"),
    "all-0.5": ("hidden 0.5", "channels 0.5"),
    "depth": ("nothing",),
}
"""The candidates that a rule takes wherever they are offered, by name of the rule."""
FIRST_GROUPED = 4  # stage: groups pay where channels are many


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("compression", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = command_parser("research.compression", __doc__, program="python -m")
    parser.add_argument("folder", type=Path, help="of a search that is done")
    parser.add_argument("--checkpoint", required=True, help="what was searched")
    parser.add_argument("--images", required=True, help="the images of the search")
    parser.add_argument("--image-count", type=int, default=512, help="of the search")
    parser.add_argument("--steps", type=int, default=160, help="of the search")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--finish-steps", type=int, default=80)
    return parser.parse_args(args)


def by_rule(search: Search, rule: str) -> Point:
    """The detector of a rule; parts to which it does not apply stay as they are."""
    picked = {position: own[0] for position, own in search.judged().items()}
    for position, own in search.judged().items():
        if _concerns(search, rule, position):
            fitting = [j for j in own if j.candidate.name in RULES[rule] and j.loss == j.loss]
            picked[position] = fitting[0] if fitting else own[0]
    costs = {measure: _share(search, list(picked.values()), measure) for measure in MEASURES}
    chosen = {position: judged.candidate for position, judged in picked.items()}
    loss = sum(judged.loss for judged in picked.values())
    return Point({rule: round(costs["latency"], 3)}, chosen, costs, loss)


def _concerns(search: Search, rule: str, position: str) -> bool:
    """Groups are for the late stages; a depth cut takes the last block of each stage."""
    number = position.removeprefix("block")
    if rule not in ("groups-2x2", "depth"):
        return True
    if not number.isdigit():
        return False
    blocks = search.teacher.blocks
    stages = [*(block.stage for block in blocks), None]
    index = int(number)
    if rule == "groups-2x2":
        return blocks[index].stage >= FIRST_GROUPED
    return stages[index] != stages[index + 1]


def _share(search: Search, picked: list[Judged], measure: str) -> float:
    whole: float = getattr(search.own_costs, measure)
    return 1 + sum(getattr(judged.price, measure) for judged in picked) / whole


@torch.no_grad()
def divergence(file: Path, search: Search) -> float:
    """Nats for an image, of a whole network from the original on the held-out images."""
    store = FeatureStore(search.work / "held_out")
    parts = load_teacher(str(file)).parts()
    total = 0.0
    for start in range(0, store.count, BATCH):
        rows = slice(start, start + BATCH)
        expected = {name: from_half(store.read(name)[rows]) for name in search.teacher.outputs}
        found = run_parts(parts, {IMAGES: from_half(store.read(IMAGES)[rows])})
        total += float(search.teacher.divergence(found, expected).sum())
    return total / store.count


def _run(options: argparse.Namespace) -> int:
    wanted = SearchOptions(
        options.checkpoint,
        options.images,
        options.folder,
        image_count=options.image_count,
        training=PartTraining(options.steps),
    )
    search = Search(wanted, print)
    search.run()
    rules = [by_rule(search, rule) for rule in options.rules]
    points: list[Point] = []
    for point in rules:
        share = round(point.costs["latency"], 3)
        fast = choose_point(search, {"latency": point.costs["latency"] + 1e-9})
        points += [point, fast._replace(budgets={"latency": share})]
    finishing = PartTraining(options.finish_steps, lr=1e-3)
    folder = options.folder / "rules"
    files = [write_point(search, point, finishing, folder) for point in points]
    print("| detector | latency, predicted | measured | parameters | multiply-adds | sum | whole |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    shares = measured_shares(search, points)
    for point, share, file in zip(points, shares, files, strict=True):
        costs = [point.costs["latency"], share, point.costs["parameters"]]
        costs.append(point.costs["multiply_adds"])
        cells = " | ".join(f"{cost:.3f}" for cost in costs)
        whole = divergence(file, search)
        print(f"| {point.name} | {cells} | {point.loss:.1f} | {whole:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
