"""Detectors for `igcv3det.measure.benchmark`: which rows a model has, and how one is opened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from igcv3det.checkpoint import load_detector
from igcv3det.detector import SSDLite
from igcv3det.export import CalibrationSet, export_detector
from igcv3det.export_formats import EXPORTED_SUFFIXES, FORMATS, RUNTIMES
from igcv3det.measure.benchmark import (
    BenchmarkSettings,
    Precision,
    StoredPrecision,
    checkpoint_targets,
)
from igcv3det.measure.memory import peak_mib
from igcv3det.measure.targets import BenchmarkTarget, Library, Networks, open_network, resized
from igcv3det.preprocess import Preprocess
from igcv3det.runtime import ExportSpec, load_exported

DETECTORS = Networks(open_network, peak_mib)


def detector_targets(
    name: str,
    model: Path,
    wanted: Sequence[tuple[Library, Precision]],
    settings: BenchmarkSettings,
    folder: Path,
) -> Iterator[BenchmarkTarget]:
    """The rows of a detector; see `igcv3det.measure.benchmark.FindTargets`."""
    common = (settings.threads, settings.batch, settings.image_size)
    if model.suffix in EXPORTED_SUFFIXES:
        for backend, precision in wanted if not settings.steps else ():
            if backend != "torch" and RUNTIMES[backend].suffix == model.suffix:
                own = _own_precision(model, precision, settings)
                yield BenchmarkTarget(name, str(model), backend, own, *common)
        return
    detector = resized(load_detector(model), settings.image_size)
    export = partial(_export, detector, settings.calibration)
    yield from checkpoint_targets(name, model, wanted, settings, folder, export)


def _export(
    detector: SSDLite, calibration: Path | None, path: Path, precision: StoredPrecision
) -> None:
    images = None
    if precision == "int8":
        assert calibration is not None
        preprocess = Preprocess(detector.config.preprocess, detector.config.image_size)
        images = CalibrationSet(calibration, preprocess)
    export_detector(detector, path, ExportSpec(precision), images)


def _own_precision(model: Path, precision: Precision, settings: BenchmarkSettings) -> str:
    """An exported file's precision; bf16 where it is wanted and OpenVINO supports it."""
    exported = load_exported(model)
    size = exported.config.image_size
    if settings.image_size not in (None, size):
        raise ValueError(
            f"{model}: takes {size} px, not {settings.image_size}; export it for that size"
        )
    if exported.spec.nms and settings.batch > 1:
        raise ValueError(
            f"{model}: includes NMS and takes one image at a time; leave out --batch, or export it "
            "without --nms"
        )
    own = exported.spec.precision
    can_bf16 = model.suffix == FORMATS["openvino"].suffix and own != "int8"
    return "bf16" if precision == "bf16" and can_bf16 else own
