"""Which models take part in which libraries and precisions; exports those that need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from igcv3det.checkpoint import load_detector
from igcv3det.export import CalibrationSet, export_detector
from igcv3det.measure.targets import Backend, BenchmarkTarget, resized
from igcv3det.measure.training_step import StepForm
from igcv3det.preprocess import Preprocess
from igcv3det.runtime import ExportSpec, load_exported
from igcv3det.shapes.dataset import write_shapes

Precision = Literal["fp32", "bf16", "int8"]

SUFFIXES: dict[str, str] = {"onnxruntime": ".onnx", "openvino": ".xml"}
IMPOSSIBLE = {("torch", "int8"), ("onnxruntime", "bf16")}
SYNTHETIC_IMAGES = 16
DRAWN_SIZE = 640  # pixels


@dataclass(frozen=True)
class Setting:
    """What is common to all rows of a benchmark.

    Attributes:
        threads: of every library.
        batch: images in a pass.
        image_size: another input size than the detectors' own, pixels.
        calibration: folder of images for int8; None draws some, which is enough for times.
        steps: forms of a training step; empty times the network.
    """

    threads: int = 2
    batch: int = 1
    image_size: int | None = None
    calibration: Path | None = None
    steps: tuple[StepForm, ...] = ()


class Group(NamedTuple):
    """BenchmarkTargets that are timed in turn and compared.

    Attributes:
        backend: the library, and the form of a training step.
        precision: of all of them.
        targets: by name, in the order of the models.
        step: form of a training step; None for the network.
    """

    backend: str
    precision: str
    targets: dict[str, BenchmarkTarget]
    step: StepForm | None = None


def plan(
    models: Sequence[Path],
    backends: Sequence[Backend],
    precisions: Sequence[Precision],
    setting: Setting,
    folder: Path,
) -> tuple[list[Group], list[str]]:
    """Finds out who runs where.

    Args:
        models: configurations, checkpoints, exported files.
        backends: libraries, in the order of the table.
        precisions: those asked for, in the order of the table.
        setting: see there.
        folder: where exported files and drawn images may go.

    Returns:
        The groups, and one sentence for each model that cannot be read or takes no part.
    """
    training = bool(setting.steps)
    runners: Sequence[Backend] = ("torch",) if training else backends
    wanted = [(backend, precision) for backend in runners for precision in precisions]
    found: dict[tuple[str, str], dict[str, BenchmarkTarget]] = {}
    failures: list[str] = []
    for name, model in _named(models).items():
        try:
            targets = list(_contenders(name, model, wanted, setting, folder))
        except (OSError, ValueError, ImportError) as error:
            failures.append(str(error))
            continue
        if not targets:
            kind = "a training step" if training else "by " + " or ".join(backends)
            failures.append(f"{model}: cannot run {kind} in {' or '.join(precisions)}")
        for target in targets:
            found.setdefault((target.backend, target.precision), {})[name] = target
    if not training:
        return [Group(*key, own) for key, own in found.items()], failures
    return [
        Group(_torch_form(step), precision, own, step)
        for (_, precision), own in found.items()
        for step in setting.steps
    ], failures


def synthetic_images(folder: Path) -> Path:
    """A folder of made-up images inside ``folder``."""
    return write_shapes(folder, 1, SYNTHETIC_IMAGES, DRAWN_SIZE) / "val2017"


def _torch_form(step: StepForm) -> str:
    return f"torch {step.execution}" + (", norms kept" if step.keep_norm_statistics else "")


def _named(models: Sequence[Path]) -> dict[str, Path]:
    """File stems, or whole paths where stems are alike; a model given twice takes part once."""
    once = list(dict.fromkeys(models))
    stems = [path.stem for path in once]
    return {path.stem if stems.count(path.stem) == 1 else str(path): path for path in once}


def _contenders(
    name: str,
    model: Path,
    wanted: Sequence[tuple[Backend, Precision]],
    setting: Setting,
    folder: Path,
) -> Iterator[BenchmarkTarget]:
    """The rows of a model, of those wanted."""
    common = (setting.threads, setting.batch, setting.image_size)
    if model.suffix in SUFFIXES.values():
        for backend, precision in wanted if not setting.steps else ():
            if SUFFIXES.get(backend) == model.suffix:
                own = _own_precision(model, precision, setting)
                yield BenchmarkTarget(name, str(model), backend, own, *common)
        return
    detector = load_detector(model)
    for backend, precision in wanted:
        if (backend, precision) in IMPOSSIBLE:
            continue
        path = model
        if backend != "torch":
            stored: Literal["fp32", "int8"] = "int8" if precision == "int8" else "fp32"
            path = folder / f"{name.replace('/', '-')}-{stored}{SUFFIXES[backend]}"
            if not path.exists():
                spec, images = ExportSpec(stored), None
                smaller = resized(detector, setting.image_size)
                if stored == "int8":
                    source = setting.calibration or synthetic_images(folder)
                    prepare = Preprocess(smaller.config.preprocess, smaller.config.image_size)
                    images = CalibrationSet(source, prepare)
                export_detector(smaller, path, spec, images)
        yield BenchmarkTarget(name, str(path), backend, precision, *common)


def _own_precision(model: Path, precision: Precision, setting: Setting) -> str:
    """An exported file's precision; bf16 where that is asked for and OpenVINO can."""
    exported = load_exported(model)
    size = exported.config.image_size
    if setting.image_size not in (None, size):
        raise ValueError(
            f"{model}: takes {size} px, not {setting.image_size}; export it for that size"
        )
    own = exported.spec.precision
    can_bf16 = model.suffix == SUFFIXES["openvino"] and own != "int8"
    return "bf16" if precision == "bf16" and can_bf16 else own
