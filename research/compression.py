r"""Uniform rules beside the search: detectors of the same candidates, chosen without looking.

The search (`igcv3det compress`) must be done; its folder holds the candidates. Each rule gives one
detector, assembled and finished as those of the search, to be trained as a whole by the same
command and compared at the latency that it has.

Example:
    python -m research.compression runs/compress --checkpoint mobilenetv2 --images photos \
        --rules groups-2x2 hidden-0.75 hidden-0.5 nothing
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from igcv3det.cli.command import run_command
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.front import Point, describe_point, measured_shares, write_point
from igcv3det.tasks.compress.search import MEASURES, Search, SearchOptions
from igcv3det.tasks.compress.training import PartTraining

RULES = {
    "groups-2x2": "groups 2x2",
    "hidden-0.75": "hidden 0.75",
    "hidden-0.5": "hidden 0.5",
    "nothing": "nothing",
}
"""The candidate that a rule takes wherever it is offered, by name of the rule."""
FIRST_GROUPED = 6  # block 6 is the first of stage 4: groups pay where channels are many


def main(args: list[str] | None = None) -> int:
    """Returns the exit status."""
    return run_command("compression", _parse, _run, args)


def _parse(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="of a search that is done")
    parser.add_argument("--checkpoint", required=True, help="what was searched")
    parser.add_argument("--images", required=True, help="the images of the search")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--finish-steps", type=int, default=80)
    return parser.parse_args(args)


def by_rule(search: Search, rule: str) -> Point:
    """The detector of a rule; parts to which it does not apply stay as they are."""
    judged = search.judged()
    chosen: dict[str, Candidate] = {}
    costs, loss = dict.fromkeys(MEASURES, 1.0), 0.0
    whole = search.own_costs
    for position, own in judged.items():
        picked = own[0]
        number = position.removeprefix("block")
        late = number.isdigit() and int(number) >= FIRST_GROUPED
        for candidate in own:
            fits = candidate.candidate.name == RULES[rule] and math.isfinite(candidate.loss)
            if fits and (late or not rule.startswith("groups")):
                picked = candidate
        chosen[position] = picked.candidate
        loss += picked.loss
        for measure in MEASURES:
            costs[measure] += getattr(picked.price, measure) / getattr(whole, measure)
    return Point({rule: costs["latency"]}, chosen, costs, loss)


def _run(options: argparse.Namespace) -> int:
    search = Search(SearchOptions(options.checkpoint, options.images, options.folder), print)
    search.run()
    points = [by_rule(search, rule) for rule in options.rules]
    finishing = PartTraining(options.finish_steps, lr=1e-3)
    for point in points:
        write_point(search, point, finishing, options.folder / "rules")
    for point, share in zip(points, measured_shares(search, points), strict=True):
        described = describe_point(point, share)
        print(
            f"{described['name']}: latency {share:.3f}, parameters "
            f"{point.costs['parameters']:.3f}, multiply-adds {point.costs['multiply_adds']:.3f}, "
            f"loss {point.loss:.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
