"""Times models in several libraries and precisions, those of one library and precision in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, NotRequired, Protocol, TypedDict

from igcv3det.export_formats import RUNTIMES
from igcv3det.measure.latency import Timing, ratios, time_in_turn
from igcv3det.measure.memory import peak_mib
from igcv3det.measure.targets import (
    NETWORK,
    BenchmarkTarget,
    Calls,
    Library,
    Networks,
    open_pipeline,
    unique_names,
)
from igcv3det.measure.training_step import TrainingStepOptions, open_training_step
from igcv3det.shapes.dataset import write_shapes

Precision = Literal["fp32", "bf16", "int8"]
StoredPrecision = Literal["fp32", "int8"]
"""Of the exported files; bfloat16 is computed from float32 weights."""

SYNTHETIC_IMAGES = 16
SYNTHETIC_SIZE = 640  # pixels


@dataclass(frozen=True)
class BenchmarkSettings:
    """What all rows of a benchmark have in common.

    Attributes:
        threads: of every library.
        batch: batch size.
        image_size: another input size than the detectors' own, pixels.
        calibration: folder of images for int8; None lets `plan_groups` make synthetic ones, enough
            for timing.
        steps: training steps to time; empty times the network.
    """

    threads: int = 2
    batch: int = 1
    image_size: int | None = None
    calibration: Path | None = None
    steps: tuple[TrainingStepOptions, ...] = ()


class BenchmarkGroup(NamedTuple):
    """Targets that are timed in turn and compared.

    Attributes:
        backend: the library; for a training step also how it is computed.
        precision: of all targets.
        targets: by model name, in the order of the models.
        step: how a training step is computed; None times the network.
    """

    backend: str
    precision: str
    targets: dict[str, BenchmarkTarget]
    step: TrainingStepOptions | None = None


class BenchmarkRow(TypedDict):
    """The time of one target.

    ``ratio`` is that of the medians to the first model's in the same group, ``peak_mib`` is None
    where it was not measured, and ``stage`` is there if the stages of the pipeline were timed.
    """

    model: str
    backend: str
    precision: str
    median_ms: float
    p90_ms: float
    ratio: float
    peak_mib: float | None
    stage: NotRequired[str]


class FindTargets(Protocol):
    """Finds the rows of a model."""

    def __call__(
        self,
        name: str,
        model: Path,
        wanted: Sequence[tuple[Library, Precision]],
        settings: BenchmarkSettings,
        folder: Path,
    ) -> Iterable[BenchmarkTarget]:
        """The rows, of those wanted; exported files go to ``folder``, the model's own.

        Raises:
            OSError, ValueError, ImportError: the model cannot be read or exported.
        """


def plan_groups(
    models: Sequence[Path],
    backends: Sequence[Library],
    precisions: Sequence[Precision],
    settings: BenchmarkSettings,
    folder: Path,
    find_targets: FindTargets,
) -> tuple[list[BenchmarkGroup], list[str]]:
    """Decides which models run in which libraries and precisions; exports those that need it.

    Args:
        models: configurations, checkpoints, exported files.
        backends: libraries, in the order of the table.
        precisions: in the order of the table.
        settings: common to all.
        folder: for exported files and synthetic images.
        find_targets: of a model.

    Returns:
        The groups, and one sentence for each model that cannot be read or run.
    """
    runners: Sequence[Library] = ("torch",) if settings.steps else backends
    wanted = [(backend, precision) for backend in runners for precision in precisions]
    found: dict[tuple[str, str], dict[str, BenchmarkTarget]] = {}
    failures: list[str] = []
    if settings.calibration is None and "int8" in precisions:
        settings = replace(settings, calibration=synthetic_images(folder))
    for number, (name, model) in enumerate(unique_names(models).items()):
        own = folder / str(number)
        own.mkdir()
        try:
            targets = list(find_targets(name, model, wanted, settings, own))
        except (OSError, ValueError, ImportError) as error:
            failures.append(str(error))
            continue
        if not targets:
            kind = "a training step" if settings.steps else "by " + " or ".join(backends)
            failures.append(f"{model}: cannot run {kind} in {' or '.join(precisions)}")
        for target in targets:
            found.setdefault((target.backend, target.precision), {})[name] = target
    return list(_groups(found, settings.steps)), failures


def time_group(
    group: BenchmarkGroup,
    rounds: int,
    networks: Networks,
    *,
    clock: Callable[[], float] = time.perf_counter,
    memory: bool = True,
    image_file: Path | None = None,
) -> list[tuple[BenchmarkRow, Timing]]:
    """Times the targets of a group in turn.

    Args:
        group: of `plan_groups`.
        rounds: durations of each target.
        networks: how targets are opened; those of training steps and pipelines are detectors.
        clock: seconds; ``time.process_time`` with one thread on a busy machine.
        memory: also measure the peak memory of each target.
        image_file: an image file, to time the pipeline from there to boxes, and its stages.

    Returns:
        Rows and their timings, stage by stage, in each the targets in order.

    Raises:
        OSError, ValueError, ImportError: a target cannot be opened.
    """
    opened = {name: _open(own, group, image_file, networks) for name, own in group.targets.items()}
    rows: list[tuple[BenchmarkRow, Timing]] = []
    for stage in next(iter(opened.values())):
        calls = {name: own[stage] for name, own in opened.items()}
        timings = time_in_turn(calls, rounds, clock=clock)
        for timing, ratio in zip(timings, ratios(timings), strict=True):
            row = _row(group, timing, ratio)
            if memory and stage == NETWORK:
                target = group.targets[timing.name]
                own = partial(peak_mib, step=group.step) if group.step else networks.peak_mib
                row["peak_mib"] = own(target)
            if image_file is not None:
                row["stage"] = stage
            rows.append((row, timing))
    return rows


def synthetic_images(folder: Path) -> Path:
    """A folder of synthetic images inside ``folder``."""
    return write_shapes(folder, 1, SYNTHETIC_IMAGES, SYNTHETIC_SIZE) / "val2017"


def _groups(
    found: dict[tuple[str, str], dict[str, BenchmarkTarget]],
    steps: Sequence[TrainingStepOptions],
) -> Iterator[BenchmarkGroup]:
    for (backend, precision), targets in found.items():
        if not steps:
            yield BenchmarkGroup(backend, precision, targets)
        for step in steps:
            frozen = ", frozen BN" if step.freeze_bn_stats else ""
            yield BenchmarkGroup(f"torch {step.conv_impl}{frozen}", precision, targets, step)


def checkpoint_targets(
    name: str,
    model: Path,
    wanted: Sequence[tuple[Library, Precision]],
    settings: BenchmarkSettings,
    folder: Path,
    export: Callable[[Path, StoredPrecision], object],
) -> Iterator[BenchmarkTarget]:
    """The rows of a checkpoint, as `FindTargets` returns them.

    Args:
        name: of the model.
        model: its file, which PyTorch opens.
        wanted: libraries and precisions.
        settings: common to all rows.
        folder: for exported files.
        export: writes a file for another library than PyTorch.
    """
    common = (settings.threads, settings.batch, settings.image_size)
    for backend, precision in wanted:
        if not _supports(backend, precision):
            continue
        path = model
        if backend != "torch":
            stored: StoredPrecision = "int8" if precision == "int8" else "fp32"
            path = folder / f"{stored}{RUNTIMES[backend].suffix}"
            if not path.exists():
                export(path, stored)
        yield BenchmarkTarget(name, str(path), backend, precision, *common)


def _supports(backend: Library, precision: Precision) -> bool:
    """Whether a library computes in a precision."""
    if precision == "bf16":
        return backend in ("torch", "openvino")
    if backend == "torch":
        return precision == "fp32"
    return precision in RUNTIMES[backend].precisions


def _open(
    target: BenchmarkTarget, group: BenchmarkGroup, image_file: Path | None, networks: Networks
) -> Calls:
    if image_file is not None:
        return open_pipeline(target, image_file)
    if group.step is not None:
        return {NETWORK: open_training_step(target, group.step)}
    return {NETWORK: networks.open(target)}


def _row(group: BenchmarkGroup, timing: Timing, ratio: float) -> BenchmarkRow:
    return BenchmarkRow(
        model=timing.name,
        backend=group.backend,
        precision=group.precision,
        median_ms=timing.median_ms,
        p90_ms=timing.p90_ms,
        ratio=ratio,
        peak_mib=None,
    )
