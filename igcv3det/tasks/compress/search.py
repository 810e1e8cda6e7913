"""The search: features, prices, trained candidates; every step is kept on disk and not repeated."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from igcv3det.datasets.image_cache import ImageCache, names_and_sizes, require_images
from igcv3det.measure.machine import describe_machine
from igcv3det.measure.memory import peak_so_far_mib
from igcv3det.tasks.compress.candidate_files import has_weights, recorded_loss
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.choice import Option, unreachable
from igcv3det.tasks.compress.features import FISHER_IMAGES, write_features, write_fisher
from igcv3det.tasks.compress.load_teacher import load_teacher
from igcv3det.tasks.compress.options import MEASURES, Budgets, SearchOptions
from igcv3det.tasks.compress.price import Price, Pricer
from igcv3det.tasks.compress.price_files import (
    OriginalCosts,
    read_original,
    read_prices,
    write_original,
    write_prices,
)
from igcv3det.tasks.compress.work_folder import WorkFolder
from igcv3det.tasks.compress.workers import train_all
from igcv3det.weight_files import checksum

MIN_IMAGES = 40
_HELD_OUT = 96  # images, at most a fifth of all
_FEATURE_BYTES = 3_000_000_000
_BYTES_OF_PIXEL = 31.1  # of an image's feature maps in float16
_TIMED_AT_ONCE = 16  # candidates

Say = Callable[[str], None]


class Judged(NamedTuple):
    """A candidate with its costs and its loss.

    Attributes:
        candidate: the candidate.
        price: beyond the original's.
        loss: divergence of the outputs, nats for an image; NaN where it was not trained.
    """

    candidate: Candidate
    price: Price
    loss: float


class Search:
    """The candidates of a network, priced and trained.

    Args:
        options: what is searched.
        say: is told of the progress, a line at a time.

    Attributes:
        teacher: the network.
        unreadable: number of images that could not be read.
        readable: number of the others in the folder, as far as they were tried.
        peaks: greatest memory of this process until the end of each stage, and of a worker, MiB.

    Raises:
        FileNotFoundError: no such checkpoint or folder, or no images in it.
        ValueError: too few images; a backend that does not run the network; another search in
            ``folder``.
        BlockingIOError: another process works in ``folder``.
    """

    def __init__(self, options: SearchOptions, say: Say) -> None:
        self.options, self.say = options, say
        files = require_images(options.images)
        self.teacher = load_teacher(options.checkpoint)
        if options.backend not in self.teacher.backends:
            raise ValueError(
                f"{options.checkpoint}: a {self.teacher.kind} runs in "
                f"{', '.join(self.teacher.backends)}, not in {options.backend}"
            )
        if len(files) < MIN_IMAGES:
            raise ValueError(
                f"{options.images}: {len(files)} images; at least {MIN_IMAGES} are needed"
            )
        self.candidates = self.teacher.candidates(options.grouped_stages)
        self.work = options.folder / "work"
        self.folder = WorkFolder(self.work)
        identity = self._identity(files)
        self.folder.require_same_search(identity)
        size = self.teacher.size
        most = max(MIN_IMAGES, int(_FEATURE_BYTES / (_BYTES_OF_PIXEL * size[0] * size[1])))
        self._held_out = min(_HELD_OUT, len(files) // 5)
        count = self._held_out + min(options.image_count, most)
        # not as it is spelled, which may change from call to call
        images = Path(options.images).resolve()
        self.cache = ImageCache([images], size, self.work, most=max(MIN_IMAGES, count))
        self.unreadable = self.cache.unreadable
        self.readable = len(files) - self.unreadable
        if len(self.cache) < MIN_IMAGES:
            raise ValueError(
                f"{options.images}: {len(self.cache)} readable images; at least {MIN_IMAGES} are "
                "needed"
            )
        self.folder.note_search(identity)  # a refused call leaves the folder to others
        self.prices: dict[str, Price] = {}
        self.losses: dict[str, float] = {}
        self.peaks: dict[str, float] = {}

    def run(self, budgets: Sequence[tuple[Budgets, Budgets]] = ()) -> None:
        """Does what is not done yet.

        Args:
            budgets: what is wanted, and a bound on it at the original's input size; nothing is
                trained where no combination keeps any of the bounds.

        Raises:
            ValueError: that is so; the message names the least.
        """
        for name, stage in (
            ("prices", self._measure_prices),
            ("features", self._write_features),
            ("training", self._train),
        ):
            stage()
            self.peaks[name] = peak_so_far_mib()
            if name == "prices":
                self._require_reachable(budgets)

    @property
    def prefix(self) -> str:
        """What names of the results begin with: a restricted search has its own."""
        stages = self.options.grouped_stages
        return f"grouped{''.join(map(str, sorted(set(stages))))}-" if stages else ""

    @cached_property
    def own_costs(self) -> Price:
        """The original's costs."""
        return read_original(self.folder).prices[self.price_key]

    def judged(self) -> dict[str, list[Judged]]:
        """All candidates by position."""
        return {
            position: [
                Judged(c, self.prices[c.key], 0.0 if c.is_original else self.losses[c.key])
                for c in candidates
            ]
            for position, candidates in self.candidates.items()
        }

    def options_by_position(self) -> dict[str, list[tuple[Candidate, Option]]]:
        """Candidates that can be chosen, with costs as shares of the original's.

        Raises:
            ValueError: a position without any; the message names it.
        """
        found = {
            position: [
                (own.candidate, Option(self.shares_of(own.candidate), own.loss))
                for own in judged
                if math.isfinite(own.loss)
            ]
            for position, judged in self.judged().items()
        }
        if empty := [position for position, own in found.items() if not own]:
            raise ValueError(f"--grouped-stages: no candidate of {empty[0]} could be trained")
        return found

    def shares_of(self, candidate: Candidate) -> dict[str, float]:
        """What a candidate costs more than the original, as shares of the original's costs."""
        price, whole = self.prices[candidate.key], self.own_costs
        return {m: getattr(price, m) / getattr(whole, m) for m in MEASURES}

    @property
    def used(self) -> int:
        """Number of images that are trained on or held out."""
        return sum(map(len, self._rows))

    @property
    def _rows(self) -> tuple[range, range]:
        """Images of the cache that are held out and that are trained on."""
        held = min(self._held_out, len(self.cache) // 5)
        rows = range(len(self.cache))  # in random order
        return rows[:held], rows[held : held + self.options.image_count]

    def pricer(self) -> Pricer:
        """Measures as the options say."""
        options = self.options
        return Pricer(self.teacher, options.backend, options.threads, options.precision, self.work)

    @property
    def price_key(self) -> str:
        """What latencies are recorded by: runtime and threads."""
        return f"{self.options.runtime} {self.options.threads}"

    def _identity(self, files: Sequence[Path]) -> dict[str, object]:
        """What results depend on; another search must not be mixed with it."""
        network = self.teacher.network
        weights = checksum(network.state_dict())
        return asdict(self.options.training) | {
            "checkpoint": f"{self.options.checkpoint} {weights[:16]}",
            "images": f"{Path(self.options.images)}, {len(files)} files",
            "sizes of images": names_and_sizes(files)[:16],
            "image_count": self.options.image_count,
            "input": list(self.teacher.size),
            "configuration": hashlib.sha256(repr(network.config).encode()).hexdigest()[:16],
        }

    def _require_reachable(self, budgets: Sequence[tuple[Budgets, Budgets]]) -> None:
        positions = [
            [Option(self.shares_of(c), 0.0) for c in own if c.is_original or self._may_be_chosen(c)]
            for own in self.candidates.values()
        ]
        failures = [unreachable(positions, wanted, bound) for wanted, bound in budgets]
        if failures and all(failures):
            raise ValueError("; ".join(failures))
        for failure in filter(None, failures):
            self.say(f"{failure}; the other budgets are kept")

    def _write_features(self) -> None:
        held, train = self._rows
        if self.unreadable:
            self.say(f"{self.unreadable} images cannot be read and are left out")
        self.say(f"features of {len(train)} images, {len(held)} held out")
        pixels = self.cache.pixels
        write_features(self.teacher, pixels, train, self.work / "train")
        write_features(self.teacher, pixels, held, self.work / "held_out")
        write_fisher(self.teacher, pixels, train[:FISHER_IMAGES], self.work)

    def _measure_prices(self) -> None:
        """Prices before anything else computes, because that would disturb them."""
        name = f"prices-{self.price_key.replace(' ', '-')}.json"
        known = read_prices(self.folder, name)
        pricer = self.pricer()
        whole = read_original(self.folder).prices
        if self.price_key not in whole:
            (latency,) = pricer.whole([(pricer.original, self.teacher.size)])
            whole[self.price_key] = Price(latency, *pricer.counts)
            write_original(self.folder, OriginalCosts(whole, describe_machine()))
        everything = [c for own in self.candidates.values() for c in own]
        missing = [c for c in everything if c.key not in known]
        if missing:
            self.say(f"timing {len(missing)} candidates: other load on the machine disturbs it now")
        for start in range(0, len(missing), _TIMED_AT_ONCE):
            batch = missing[start : start + _TIMED_AT_ONCE]
            for candidate in batch:
                pricer.open(candidate)
            for candidate in batch:
                known[candidate.key] = pricer.price(candidate)
            write_prices(self.folder, name, known)
            pricer.close()
            self.say(f"timed: {start + len(batch)} of {len(missing)}")
        self.prices = {c.key: known[c.key] for c in everything}

    def _train(self) -> None:
        everything = [c for own in self.candidates.values() for c in own if not c.is_original]
        self.losses = {c.key: math.nan for c in everything}
        wanted = [c for c in everything if self._may_be_chosen(c)]
        left = []
        for candidate in wanted:
            loss = recorded_loss(self.folder, candidate)
            if loss is None or (math.isfinite(loss) and not has_weights(self.work, candidate)):
                left.append(candidate)
            else:
                self.losses[candidate.key] = loss
        self.say(
            f"candidates: {len(left)} to train, {len(wanted) - len(left)} done before, "
            f"{len(everything) - len(wanted)} cost more than what is there"
        )
        started = time.monotonic()
        options = self.options
        results = train_all(left, options.checkpoint, self.work, options.training, options.workers)
        for number, trained in enumerate(results, 1):
            self.losses[trained.key] = math.nan if trained.loss is None else trained.loss
            self.peaks["worker"] = max(self.peaks.get("worker", 0.0), trained.peak_mib)
            ahead = (time.monotonic() - started) / number * (len(left) - number)
            self.say(f"{number} of {len(left)}: {trained}; {ahead / 60:.0f} min left")

    def _may_be_chosen(self, candidate: Candidate) -> bool:
        """Whether it is cheaper than the cheapest that needs no training, by some measure."""
        price = self.prices[candidate.key]._asdict()
        if not any(c.is_original for c in self.candidates[candidate.position]):
            return True
        return any(price[measure] < 0 for measure in self.options.measures)
