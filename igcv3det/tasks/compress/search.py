"""The search: features, prices, trained candidates; every step is kept on disk and not repeated."""

from __future__ import annotations

import json
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from igcv3det.atomic_files import atomic_write
from igcv3det.checkpoint import load_detector
from igcv3det.datasets.image_cache import ImageCache, images_in
from igcv3det.measure.machine import describe_machine
from igcv3det.measure.targets import Backend
from igcv3det.tasks.compress.candidates import Candidate, find_candidates
from igcv3det.tasks.compress.choice import Option
from igcv3det.tasks.compress.design import explicit_detector
from igcv3det.tasks.compress.features import FISHER_IMAGES, write_features, write_fisher
from igcv3det.tasks.compress.price import Price, Pricer
from igcv3det.tasks.compress.training import PartTraining
from igcv3det.tasks.compress.workers import open_worker, train_candidate
from igcv3det.weight_files import checksum

MEASURES = Price._fields
MIN_IMAGES = 40
_HELD_OUT = 96  # images, at most a fifth of all
_FEATURE_BYTES = 3_000_000_000

Say = Callable[[str], None]


@dataclass(frozen=True)
class SearchOptions:
    """What is searched, and where."""

    checkpoint: str
    images: str
    folder: Path
    backend: Backend = "onnxruntime"
    threads: int = 2
    workers: int = 2
    image_count: int = 512
    grouped_stages: tuple[int, ...] = ()
    measures: tuple[str, ...] = ("latency",)
    training: PartTraining = field(default_factory=PartTraining)


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
    """The candidates of a detector, priced and trained.

    Args:
        options: what is searched.
        say: is told of the progress, a line at a time.

    Attributes:
        teacher: with listed blocks.
        unreadable: number of images that could not be read.

    Raises:
        FileNotFoundError: no such checkpoint or folder, or no images in it.
        ValueError: too few images; ``folder`` holds another search.
    """

    def __init__(self, options: SearchOptions, say: Say) -> None:
        self.options, self.say = options, say
        self.teacher = explicit_detector(load_detector(options.checkpoint))
        self.candidates = find_candidates(self.teacher.config, options.grouped_stages)
        self.work = options.folder / "work"
        files = images_in(options.images)
        self._require_same_search(len(files))
        self.cache = ImageCache([options.images], self.teacher.config.image_size, self.work)
        self.unreadable = len(files) - len(self.cache)
        if len(self.cache) < MIN_IMAGES:
            raise ValueError(
                f"{options.images}: {len(self.cache)} readable images; at least {MIN_IMAGES} are "
                "needed"
            )
        self.prices: dict[str, Price] = {}
        self.losses: dict[str, float] = {}

    def run(self) -> None:
        """Does what is not done yet."""
        self._write_features()
        self._measure_prices()
        self._train()

    @property
    def prefix(self) -> str:
        """What names of the results begin with: a restricted search has its own."""
        stages = self.options.grouped_stages
        return f"grouped{''.join(map(str, sorted(stages)))}-" if stages else ""

    @property
    def own_costs(self) -> Price:
        """The original's costs."""
        return Price(*self._read("original.json")[self._price_key])

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
        """Candidates that can be chosen, with costs as shares of the original's."""
        whole = self.own_costs
        return {
            position: [
                (own.candidate, Option(_shares(own.price, whole), own.loss))
                for own in judged
                if math.isfinite(own.loss)
            ]
            for position, judged in self.judged().items()
        }

    def file_of(self, candidate: Candidate) -> Path:
        """The weights of a trained candidate."""
        return self.work / "candidates" / f"{candidate.key}.safetensors"

    @property
    def _price_key(self) -> str:
        return f"{self.options.backend} {self.options.threads}"

    def _require_same_search(self, images: int) -> None:
        known = asdict(self.options.training) | {
            "checkpoint": f"{self.options.checkpoint} {checksum(self.teacher.state_dict())[:16]}",
            "images": f"{self.options.images}, {images} files",
            "image_count": self.options.image_count,
        }
        if found := self._read("search.json"):
            differing = [k for k in known if found.get(k) != known[k]]
            if differing:
                raise ValueError(
                    f"{self.options.folder}: holds another search ({differing[0]} "
                    f"{found.get(differing[0])}, not {known[differing[0]]}); choose another folder"
                )
        self._write("search.json", known)

    def _rows(self) -> tuple[list[int], list[int]]:
        order = [int(row) for row in np.random.default_rng(0).permutation(len(self.cache))]
        held = min(_HELD_OUT, len(order) // 5)
        size = self.teacher.config.image_size
        most = max(MIN_IMAGES, int(_FEATURE_BYTES / (2.8e6 * (size / 300) ** 2)))
        return order[held : held + min(self.options.image_count, most)], order[:held]

    def _write_features(self) -> None:
        train, held = self._rows()
        self.say(f"features of {len(train)} images, {len(held)} held out")
        pixels = self.cache.pixels
        write_features(self.teacher, pixels, train, self.work / "train")
        write_features(self.teacher, pixels, held, self.work / "held_out")
        write_fisher(self.teacher, pixels, train[:FISHER_IMAGES], self.work)

    def _measure_prices(self) -> None:
        """Prices before anything else computes, because that would disturb them."""
        name = f"prices-{self._price_key.replace(' ', '-')}.json"
        known = self._read(name)
        pricer = Pricer(self.teacher, self.options.backend, self.options.threads)
        whole = self._read("original.json")
        if self._price_key not in whole:
            (latency,) = pricer.whole([pricer.original])
            whole[self._price_key] = [latency, *pricer.counts]
            whole["machine"] = describe_machine()
            self._write("original.json", whole)
        everything = [c for own in self.candidates.values() for c in own]
        missing = [c for c in everything if c.key not in known]
        for number, candidate in enumerate(missing, 1):
            pricer.open(candidate)
            if number % 20 == 0:
                self.say(f"opened for timing: {number} of {len(missing)}")
        self.say(f"timing {len(missing)} candidates: other load on the machine disturbs it now")
        for candidate in missing:
            known[candidate.key] = list(pricer.price(candidate))
            self._write(name, known)
        self.prices = {c.key: Price(*known[c.key]) for c in everything}

    def _train(self) -> None:
        everything = [c for own in self.candidates.values() for c in own if not c.is_original]
        self.losses = {c.key: math.nan for c in everything}
        wanted = [c for c in everything if self._may_be_chosen(c)]
        left = []
        for candidate in wanted:
            done = self._read(f"candidates/{candidate.key}.json")
            if done:
                self.losses[candidate.key] = done["loss"]
            else:
                left.append(candidate)
        self.say(
            f"candidates: {len(left)} to train, {len(wanted) - len(left)} done before, "
            f"{len(everything) - len(wanted)} cost more than what is there"
        )
        started = time.monotonic()
        for number, (key, loss) in enumerate(self._trained(left), 1):
            self.losses[key] = loss
            ahead = (time.monotonic() - started) / number * (len(left) - number)
            self.say(f"{number} of {len(left)}: {key} {loss:.2f} nats; {ahead / 60:.0f} min left")

    def _may_be_chosen(self, candidate: Candidate) -> bool:
        """Whether it is cheaper than the cheapest that needs no training, by some measure."""
        price = self.prices[candidate.key]._asdict()
        if not any(c.is_original for c in self.candidates[candidate.position]):
            return True
        return any(price[measure] < 0 for measure in self.options.measures)

    def _trained(self, candidates: Sequence[Candidate]) -> Iterator[tuple[str, float]]:
        if not candidates:
            return
        context = multiprocessing.get_context("spawn")
        arguments = (self.options.checkpoint, str(self.work), self.options.training)
        pool = ProcessPoolExecutor(
            min(self.options.workers, len(candidates)), context, open_worker, arguments
        )
        try:
            futures: list[Future[tuple[str, float]]] = [
                pool.submit(train_candidate, candidate) for candidate in candidates
            ]
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.work / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        atomic_write(self.work / name, json.dumps(content, indent=1), durable=False)


def _shares(price: Price, whole: Price) -> dict[str, float]:
    return {m: getattr(price, m) / getattr(whole, m) for m in MEASURES}
