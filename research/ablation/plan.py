"""A plan of experiments: each overrides a few keys of a common base.

::

    title: Heading of the tables.
    seeds: [0, 1]
    comparison_groups:
      relu: Position of the ReLU
    base: {model: ..., data: ..., trainer: ...}      # as for tools/train_cls.py
    experiments:
      after the depthwise: {comparison_groups: [relu]}
      after both: {comparison_groups: [relu], changes: {model.classifier.backbone.relu: both}}

A run is identified by the hash of its settings, its seed and its images: a run with the same hash
is not repeated, and a changed key makes another run.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from igcv3det.config import config_from_dict
from igcv3det.engine.arguments import notify
from igcv3det.tasks.classify.config import ClassifierConfig
from igcv3det.tasks.classify.datamodule import ClassificationDataModule
from igcv3det.tasks.classify.networks import build_network
from igcv3det.yaml_files import read_yaml

RENAMED = {"questions": "comparison_groups"}  # old keys of plans
FIELDS = {"title", "seeds", "comparison_groups", "base", "experiments"}
SECTIONS = {"model", "data", "trainer", "save_every_n_steps"}
# keys that do not change the result; the images have a hash of their own
UNHASHED = ("data.root", "data.cache", "data.num_workers", "save_every_n_steps")


@dataclass(frozen=True)
class Experiment:
    """One row of the tables.

    Attributes:
        name: name of the row.
        comparison_groups: keys of the tables that the row is in.
        changes: values by dotted key, which override the plan's base.
    """

    name: str
    comparison_groups: tuple[str, ...]
    changes: dict[str, Any]

    @property
    def slug(self) -> str:
        """The name in a form for folders."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")


@dataclass(frozen=True)
class Plan:
    """Experiments and their common settings.

    Attributes:
        path: file of the plan.
        title: heading of the tables.
        seeds: seeds of every experiment.
        comparison_groups: heading by key, in the order of the tables.
        base: settings as for ``tools/train_cls.py``.
        experiments: in the order of the rows.
    """

    path: Path
    title: str
    seeds: tuple[int, ...]
    comparison_groups: dict[str, str]
    base: dict[str, Any]
    experiments: tuple[Experiment, ...]

    def settings(self, experiment: Experiment) -> dict[str, Any]:
        """The base with an experiment's changes."""
        settings = copy.deepcopy(self.base)
        for key, value in experiment.changes.items():
            *parents, last = key.split(".")
            place = settings
            for parent in parents:
                place = place.setdefault(parent, {})
            place[last] = copy.deepcopy(value)
        return settings

    def classifier(self, experiment: Experiment) -> ClassifierConfig:
        """The classifier of an experiment.

        Raises:
            ValueError: a field is wrong; the message names file and experiment.
        """
        values = self.settings(experiment)["model"]["classifier"]
        try:
            config = config_from_dict(ClassifierConfig, values, "model.classifier")
            build_network(config)
        except ValueError as error:
            raise ValueError(f"{self.path}: {experiment.name}: {error}") from error
        return config

    def only(self, names: list[str]) -> tuple[Experiment, ...]:
        """The experiments of these names; all experiments if ``names`` is empty.

        Raises:
            ValueError: a name is unknown.
        """
        known = {experiment.name: experiment for experiment in self.experiments}
        unknown = sorted(set(names) - known.keys())
        if unknown:
            raise ValueError(f"{self.path}: has no experiment {unknown}; it has {list(known)}")
        return tuple(known[name] for name in names) or self.experiments


def read_plan(path: Path, data: str | None = None) -> Plan:
    """Reads and checks a plan; every network is built once, to find errors before any training.

    Args:
        path: YAML file.
        data: overrides ``data.root`` of the base.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the plan is wrong; the message names the file and the field.
    """
    content = read_yaml(path)
    if isinstance(content, dict):
        for old in RENAMED.keys() & content.keys():
            notify(old, RENAMED)
        content = _with_new_keys(content)
    if not isinstance(content, dict) or content.keys() != FIELDS:
        raise ValueError(f"{path}: a plan needs exactly the fields {sorted(FIELDS)}")
    base, groups, seeds = content["base"], content["comparison_groups"], content["seeds"]
    if not isinstance(base, dict) or not {"model", "data", "trainer"} <= base.keys() <= SECTIONS:
        raise ValueError(f"{path}: base must be a mapping with model, data and trainer")
    is_list = isinstance(seeds, list) and all(type(seed) is int for seed in seeds)
    if not is_list or not seeds or len(set(seeds)) != len(seeds):
        raise ValueError(f"{path}: seeds must be different whole numbers, got {seeds}")
    entries = content["experiments"]
    if not isinstance(groups, dict) or not isinstance(entries, dict):
        raise ValueError(f"{path}: comparison_groups and experiments must be mappings")
    base = copy.deepcopy(base)
    if data is not None:
        base["data"]["root"] = data
    experiments = tuple(
        _experiment(str(name), {} if entry is None else entry, groups, path)
        for name, entry in entries.items()
    )
    plan = Plan(path, str(content["title"]), tuple(seeds), groups, base, experiments)
    if not experiments or len({e.slug for e in experiments}) < len(experiments):
        raise ValueError(f"{path}: experiments need names that give different folders")
    for experiment in experiments:
        plan.classifier(experiment)
    return plan


def _experiment(name: str, entry: object, groups: dict[str, str], path: Path) -> Experiment:
    where = f"{path}: experiment {name!r}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} must be a mapping with comparison_groups and changes")
    entry = _with_new_keys(entry)
    if unknown := entry.keys() - {"comparison_groups", "changes"}:
        raise ValueError(f"{where} has no field {sorted(unknown)}")
    own, changes = tuple(entry.get("comparison_groups") or ()), dict(entry.get("changes") or {})
    if not own or set(own) - groups.keys():
        raise ValueError(
            f"{where}: comparison_groups must be among {list(groups)}, got {list(own)}"
        )
    if wrong := [key for key in changes if key.split(".")[0] not in SECTIONS]:
        raise ValueError(f"{where}: changes must begin with one of {sorted(SECTIONS)}, got {wrong}")
    return Experiment(name, own, changes)


def _with_new_keys(content: dict[str, Any]) -> dict[str, Any]:
    return {RENAMED.get(key, key): value for key, value in content.items()}


def data_fingerprint(settings: dict[str, Any]) -> str:
    """A text that identifies the images of a run.

    Raises:
        OSError: the images are not there.
        ValueError: the data set cannot be used.
    """
    keys = {"root", "source", "train_split", "val_split", "download", "drawn", "cache"}
    given = {key: value for key, value in settings["data"].items() if key in keys}
    size = settings["model"]["classifier"].get("image_size", ClassifierConfig().image_size)
    return ClassificationDataModule(**given, image_size=size).fingerprint


def with_hashed_names(settings: dict[str, Any]) -> dict[str, Any]:
    """A copy of settings with the keys that enter hashes: ``model.conv_impl`` as ``execution``.

    That was the key's name in the first runs, whose hashes stay valid.
    """
    copied = copy.deepcopy(settings)
    if "conv_impl" in copied["model"]:
        copied["model"]["execution"] = copied["model"].pop("conv_impl")
    return copied


def run_hash(settings: dict[str, Any], seed: int, fingerprint: str) -> str:
    """Twelve hexadecimal digits that identify a run.

    Args:
        settings: from `Plan.settings`.
        seed: seed of the run.
        fingerprint: `data_fingerprint` of its images.
    """
    hashed = with_hashed_names(settings)
    for key in UNHASHED:
        *parents, last = key.split(".")
        place = hashed
        for parent in parents:
            place = place.get(parent, {})
        place.pop(last, None)
    text = json.dumps([hashed, seed, fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
