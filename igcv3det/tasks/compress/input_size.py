"""The choice of the input's size: a smaller input leaves time for more of the network.

For each size the network of least loss within the budgets is chosen, and the one whose detections
agree best with the original's is taken. The parts keep the weights that they have, the anchors
their pixels (`igcv3det.detector.at_input_size`).
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import cast

import torch

from igcv3det.config.values import LEAST_SIDE
from igcv3det.detector import SSDLite
from igcv3det.tasks.compress.agreement import THRESHOLD, Agreement
from igcv3det.tasks.compress.front import Point, choose_measured, choose_point
from igcv3det.tasks.compress.input_costs import SIZED_MEASURES
from igcv3det.tasks.compress.network_files import assemble_point
from igcv3det.tasks.compress.options import Budgets
from igcv3det.tasks.compress.search import Search

_STEPS = 75  # in the side of the original's input: 4 of 300 px
_SMALLER = 4  # steps below the side by the number of pixels: time shrinks more slowly
_PATIENCE = 4  # sides in a row that are no better
_ROUNDING = 1.25  # costs shrink at most by so much more than the number of pixels
_FILE = "agreements.json"


class InputSizes:
    """The sizes of a detector's input that are tried.

    Args:
        search: done before `choose`. Without ``image_sizes`` in its options, sides are tried
            upwards from one at which the original alone should keep the budgets, until several in a
            row are no better.

    Raises:
        ValueError: a size that the network cannot have.
    """

    def __init__(self, search: Search) -> None:
        self.search = search
        self.own = search.teacher.size[0]
        for side in search.options.image_sizes:
            search.teacher.at_size(search.teacher.network, (side, side))

    def at_most(self, budgets: Budgets) -> Budgets:
        """A bound on a network's costs at the original's input size if it keeps the budgets at any.

        Sides of maps are rounded up, so costs do not shrink exactly as the number of pixels does.
        """
        least = min(self.search.options.image_sizes, default=self.own)
        pixels = 1.0 if least == self.own else _ROUNDING * (self.own / least) ** 2
        return {m: v * pixels if m in SIZED_MEASURES else v for m, v in budgets.items()}

    def choose(self, budgets: Budgets) -> Point:
        """The network for some budgets at the input size at which it keeps most.

        Raises:
            ValueError: no combination keeps them at any of the sizes, or, where none are given, at
                the original's; the message names the least.
        """
        if not self.search.options.image_sizes:
            choose_point(self.search, budgets)
        sides = self._sides(budgets)
        tried: dict[int, float] = {}
        if len(sides) == 1:
            (best,) = sides
        elif self._agreement.objects:
            tried = self._try(budgets, sides)
            best = max(tried, key=lambda side: (tried[side], side)) if tried else sides[0]
        else:
            best = self._largest(budgets, sides)
            self.search.say(
                f"the original finds nothing with a score of {THRESHOLD:g}: {best} px is taken"
            )
        size = None if best == self.own else (best, best)
        return choose_measured(self.search, budgets, size)._replace(tried=tried)

    def _largest(self, budgets: Budgets, sides: list[int]) -> int:
        """The original's side or else the largest at which the budgets can be kept."""
        for side in sorted(sides, key=lambda side: (side != self.own, -side)):
            try:
                choose_point(self.search, budgets, None if side == self.own else (side, side))
            except ValueError:
                continue
            return side
        return sides[0]  # the choice there names the least

    def _sides(self, budgets: Budgets) -> list[int]:
        """Ascending."""
        given = self.search.options.image_sizes
        shares = [share for measure, share in budgets.items() if measure in SIZED_MEASURES]
        if given or not shares or self.search.teacher.kind != "detector":
            return sorted(given) or [self.own]
        step = max(1, round(self.own / _STEPS))
        least = max(LEAST_SIDE, self.own * math.sqrt(min(shares)) - _SMALLER * step)
        return [self.own - n * step for n in range(int((self.own - least) / step), -1, -1)]

    def _try(self, budgets: Budgets, sides: list[int]) -> dict[int, float]:
        """Agreement by side; without those at which no network keeps the budgets."""
        patience = math.inf if self.search.options.image_sizes else _PATIENCE
        tried: dict[int, float] = {}
        best, waited = -math.inf, 0
        for side in sides:
            try:
                point = choose_point(self.search, budgets, (side, side))
            except ValueError:
                continue
            tried[side] = self._agreement_of(point, side)
            self.search.say(f"{point.name}: at {side} px agreement {tried[side]:.3f}")
            waited = 0 if tried[side] > best else waited + 1
            best = max(best, tried[side])
            if waited >= patience:
                break
        return tried

    @cached_property
    def _agreement(self) -> Agreement:
        self.search.say("detections of the original, for the choice of the input's size")
        torch.set_num_threads(self.search.options.workers)
        original = cast(SSDLite, self.search.teacher.network)
        return Agreement(original, self.search.cache.paths, self.search.work / "detections.json")

    def _agreement_of(self, point: Point, side: int) -> float:
        keys = " ".join(candidate.key for candidate in point.chosen.values())
        name = f"{side} {hashlib.sha256(keys.encode()).hexdigest()[:16]}"
        known = self.search.folder.read(_FILE)
        if name not in known:
            torch.set_num_threads(self.search.options.workers)
            teacher = self.search.teacher
            network, _ = assemble_point(self.search, point)
            known[name] = self._agreement.of(cast(SSDLite, teacher.at_size(network, (side, side))))
            self.search.folder.write(_FILE, known)
        return float(known[name])
