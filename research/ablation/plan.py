"""A list of experiments, each a few changed keys over one common base, and how a run is known.

::

    title: What the tables are headed by.
    seeds: [0, 1]
    questions:
      relu: Where should the ReLU sit?
    base: {model: ..., data: ..., trainer: ...}      # as tools/train_cls.py takes it
    experiments:
      after the depthwise: {questions: [relu]}
      after both: {questions: [relu], changes: {model.classifier.backbone.relu: both}}

A run is known by the hash of its settings, its seed and its images: what has been run under the
same hash is done, and a changed key makes another run.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from igcv3det.config import config_from_dict
from igcv3det.tasks.classify.config import ClassifierConfig
from igcv3det.tasks.classify.datamodule import ClassificationDataModule
from igcv3det.tasks.classify.networks import build_network

FIELDS = {"title", "seeds", "questions", "base", "experiments"}
PARTS = {"model", "data", "trainer", "save_every_n_steps"}
# they change how long a run takes or where it reads, not what comes out; the images have a hash
UNHASHED = ("data.root", "data.cache", "data.num_workers", "save_every_n_steps")


@dataclass(frozen=True)
class Experiment:
    """One row of the tables.

    Attributes:
        name: of the row.
        questions: which tables it stands in.
        changes: dotted keys to values, over the plan's base.
    """

    name: str
    questions: tuple[str, ...]
    changes: dict[str, Any]

    @property
    def slug(self) -> str:
        """The name as that of a folder."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Plan:
    """Experiments and what they have in common.

    Attributes:
        path: the file they were read from.
        title: of the tables.
        seeds: each experiment is run with every one.
        questions: key to heading, in the order of the tables.
        base: settings as of `tools/train_cls.py`.
        experiments: in the order of the rows.
    """

    path: Path
    title: str
    seeds: tuple[int, ...]
    questions: dict[str, str]
    base: dict[str, Any]
    experiments: tuple[Experiment, ...]

    def settings(self, experiment: Experiment) -> dict[str, Any]:
        """The base with an experiment's changes made."""
        settings = copy.deepcopy(self.base)
        for key, value in experiment.changes.items():
            *parents, last = key.split(".")
            place = settings
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = copy.deepcopy(value)
        return settings

    def classifier(self, experiment: Experiment) -> ClassifierConfig:
        """The network of an experiment.

        Raises:
            ValueError: a field that does not fit; names the file and the experiment.
        """
        values = self.settings(experiment)["model"]["classifier"]
        try:
            config = config_from_dict(ClassifierConfig, values, "model.classifier")
            build_network(config)
        except ValueError as error:
            raise ValueError(f"{self.path}: {experiment.name}: {error}") from error
        return config

    def only(self, names: list[str]) -> tuple[Experiment, ...]:
        """The experiments of these names; of all, where there are none.

        Raises:
            ValueError: there is no experiment of a name.
        """
        known = {experiment.name: experiment for experiment in self.experiments}
        unknown = sorted(set(names) - known.keys())
        if unknown:
            raise ValueError(f"{self.path}: has no experiment {unknown}; it has {list(known)}")
        return tuple(known[name] for name in names) or self.experiments


def read_plan(path: Path, data: str | None = None) -> Plan:
    """Reads and checks a plan; every network is built once, so that a slip shows at once.

    Args:
        path: a YAML file.
        data: takes the place of the base's ``data.root``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no plan; the message names the file and the field.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(content, dict) or content.keys() != FIELDS:
        raise ValueError(f"{path}: a plan has the fields {sorted(FIELDS)}, no more and no fewer")
    base, questions, seeds = content["base"], content["questions"], content["seeds"]
    if not isinstance(base, dict) or not {"model", "data", "trainer"} <= base.keys() <= PARTS:
        raise ValueError(f"{path}: base must be a mapping with model, data and trainer")
    if not seeds or len(set(seeds)) != len(seeds) or not all(type(s) is int for s in seeds):
        raise ValueError(f"{path}: seeds must be different whole numbers, got {seeds}")
    base = copy.deepcopy(base)
    if data is not None:
        base["data"]["root"] = data
    experiments = tuple(
        _experiment(name, entry or {}, questions, path)
        for name, entry in content["experiments"].items()
    )
    plan = Plan(path, str(content["title"]), tuple(seeds), questions, base, experiments)
    if not experiments or len({e.slug for e in experiments}) < len(experiments):
        raise ValueError(f"{path}: experiments need names that make different folders")
    for experiment in experiments:
        plan.classifier(experiment)
    return plan


def _experiment(
    name: str, entry: dict[str, Any], questions: dict[str, str], path: Path
) -> Experiment:
    where = f"{path}: experiment {name!r}"
    if unknown := entry.keys() - {"questions", "changes"}:
        raise ValueError(f"{where} has no field {sorted(unknown)}")
    asked, changes = tuple(entry.get("questions") or ()), dict(entry.get("changes") or {})
    if not asked or (unknown := set(asked) - questions.keys()):
        raise ValueError(f"{where}: questions must be among {list(questions)}, got {list(asked)}")
    if wrong := [key for key in changes if key.split(".")[0] not in PARTS]:
        raise ValueError(f"{where}: changes must begin with one of {sorted(PARTS)}, got {wrong}")
    return Experiment(name, asked, changes)


def data_fingerprint(settings: dict[str, Any]) -> str:
    """What tells the images that a run is trained on from others.

    Raises:
        OSError: they are not there.
        ValueError: they cannot be used.
    """
    keys = {"root", "source", "train_split", "val_split", "download", "drawn", "cache"}
    given = {key: value for key, value in settings["data"].items() if key in keys}
    size = settings["model"]["classifier"].get("image_size", ClassifierConfig().image_size)
    return ClassificationDataModule(**given, image_size=size).fingerprint


def run_hash(settings: dict[str, Any], seed: int, fingerprint: str) -> str:
    """Twelve hexadecimal digits that stand for a run.

    Args:
        settings: as of `Plan.settings`.
        seed: of the run.
        fingerprint: of its images, `data_fingerprint`.
    """
    kept = copy.deepcopy(settings)
    for key in UNHASHED:
        *parents, last = key.split(".")
        place = kept
        for parent in parents:
            place = place.get(parent, {})
        place.pop(last, None)
    text = json.dumps([kept, seed, fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
