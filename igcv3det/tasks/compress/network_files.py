"""The networks on disk: the record of a choice, assembly, the file."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from igcv3det.engine.norm_statistics import restore_statistics
from igcv3det.tasks.compress.assembly import assemble, finish
from igcv3det.tasks.compress.candidate_files import recorded_loss, weights_file
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.choice import Option
from igcv3det.tasks.compress.features import FeatureStore, network_inputs, read_fisher
from igcv3det.tasks.compress.front import Point, name_of, point_of
from igcv3det.tasks.compress.options import Budgets
from igcv3det.tasks.compress.search import Search
from igcv3det.tasks.compress.training import PartLoss, PartTraining
from igcv3det.tasks.compress.work_folder import damaged
from igcv3det.weight_files import existing_file, read_metadata

_STATISTICS_IMAGES = 128
_SHOWN = {
    "steps": "--finish-steps",
    "threads": "--threads",
    "image_sizes": "--image-size",
}  # others have no option of one value


def is_written(search: Search, budgets: Budgets, finishing: PartTraining) -> bool:
    """Whether the network for some budgets has a file, which is then kept.

    Args:
        search: done, or not.
        budgets: of the network.
        finishing: as for `write_point`.

    Raises:
        ValueError: its file was made with other options, or by something else.
    """
    path = _path(search, budgets, search.options.folder)
    if not path.exists():
        return False
    _require_same(path, _read_record(search, path.stem), _made_by(search, finishing))
    try:
        read_metadata(existing_file(path))
    except ValueError as error:
        raise ValueError(f"{error}; delete it, and it is made again") from error
    return True


def recorded_point(search: Search, budgets: Budgets, finishing: PartTraining) -> Point | None:
    """The choice of an earlier call, which timed the networks: timing again may choose another.

    Where its file exists, that is what the file holds, whatever the candidates cost now. Where an
    assembly was stopped, it is the choice if all of it can still be chosen.

    Raises:
        ValueError: as `is_written`.
    """
    path = _path(search, budgets, search.options.folder)
    record = _read_record(search, path.stem)
    if is_written(search, budgets, finishing):
        pairs = _of_file(search, record["chosen"], path)
        return _recorded(search, budgets, pairs, record)
    if record.get("made_by") != _made_by(search, finishing):
        return None
    pairs = [
        pair
        for own in search.options_by_position().values()
        for pair in own
        if record["chosen"].get(pair[0].position) == pair[0].key
    ]
    if len(pairs) < len(search.candidates):
        return None
    return _recorded(search, budgets, pairs, record)


def _recorded(
    search: Search,
    budgets: Budgets,
    pairs: Sequence[tuple[Candidate, Option]],
    record: Mapping[str, Any],
) -> Point:
    side, tried = record["image_size"], record["agreement"]
    point = point_of(search, budgets, pairs, None if side is None else (side, side))
    return point._replace(tried={int(size): float(value) for size, value in tried.items()})


def _path(search: Search, budgets: Budgets, folder: Path) -> Path:
    return folder / f"{search.prefix}{name_of(budgets)}.safetensors"


def _read_record(search: Search, name: str) -> dict[str, Any]:
    """What `write_point` noted of a network; empty where nothing was noted.

    Raises:
        ValueError: the file is damaged; the message names it.
    """
    record = search.folder.read(_record(name))
    if not record:
        return {}
    own = {"made_by": {}, "chosen": {}, "image_size": None, "agreement": {}} | record
    kinds = {"made_by": dict, "chosen": dict, "image_size": int | None, "agreement": dict}
    for key, kind in kinds.items():
        if not isinstance(own[key], kind):
            raise damaged(search.work / _record(name), f"{key}: {own[key]!r}")
    if not own["chosen"] or not all(isinstance(v, int | float) for v in own["agreement"].values()):
        raise damaged(search.work / _record(name), "no parts, or an agreement is no number")
    return own


def _require_same(path: Path, record: Mapping[str, Any], wanted: Mapping[str, object]) -> None:
    if not record:
        raise ValueError(f"{path}: not made by this search; move it away")
    made = record.get("made_by", {})
    for name, value in wanted.items():
        if made.get(name) != value:
            raise ValueError(
                f"{path}: made with {_SHOWN.get(name, name)} {made.get(name)}, not {value}; move "
                "it away, or choose another folder"
            )


def _of_file(
    search: Search, chosen: Mapping[str, str], path: Path
) -> list[tuple[Candidate, Option]]:
    """The candidates in a file, also those that cost more than the original by now."""
    pairs = []
    for position, own in search.candidates.items():
        found = next((c for c in own if c.key == chosen.get(position)), None)
        if found is None:
            raise ValueError(
                f"{path}: holds {chosen.get(position)} as {position}, which is no candidate; move "
                "it away"
            )
        loss = 0.0 if found.is_original else recorded_loss(search.folder, found)
        costs = search.shares_of(found)
        pairs.append((found, Option(costs, math.nan if loss is None else loss)))
    return pairs


def _record(name: str) -> str:
    return f"detectors/{name}.json"


def _made_by(search: Search, finishing: PartTraining) -> dict[str, object]:
    options = search.options
    return {
        "backend": options.runtime,
        "threads": options.threads,
        "image_sizes": list(options.image_sizes) or None,
        **asdict(finishing),
    }


def assemble_point(search: Search, point: Point) -> tuple[nn.Module, Tensor | None]:
    """`igcv3det.tasks.compress.assembly.assemble` with the candidates of a search."""
    files = {c.key: weights_file(search.work, c) for c in point.chosen.values()}
    return assemble(search.teacher, point.chosen, files)


def write_point(search: Search, point: Point, finishing: PartTraining, folder: Path) -> Path:
    """Assembles a point, finishes its parts and writes the network, unless that is done.

    Returns:
        The file.
    """
    path = _path(search, point.budgets, folder)
    name = path.stem
    if path.is_file():
        return path
    finished = search.work / "detectors" / name
    made = {
        "made_by": _made_by(search, finishing),
        "chosen": {position: c.key for position, c in point.chosen.items()},
        "image_size": None if point.size is None else point.size[0],
        "agreement": {str(side): value for side, value in point.tried.items()},
    }
    if search.folder.read(_record(name)) != made:
        shutil.rmtree(finished, ignore_errors=True)
        search.folder.write(_record(name), made)
    search.say(f"{path.name}: assembling")
    torch.set_num_threads(search.options.workers)
    teacher, store = search.teacher, FeatureStore(search.work / "train")
    network, order = assemble_point(search, point)
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
    teacher.save(teacher.at_size(network, point.size or teacher.size), path, source)
    shutil.rmtree(finished, ignore_errors=True)
    return path


def _restore_norms(search: Search, network: nn.Module) -> None:
    """Gives the norms, which were folded, their inputs' statistics; the function stays the same.

    Training with a batch's statistics, as fine-tuning does, would else start from another function.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    rows = range(min(_STATISTICS_IMAGES, len(search.cache)))
    restore_statistics(network, norms, network_inputs(search.teacher, search.cache.pixels, rows))
