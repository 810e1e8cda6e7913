"""Segmenters for `igcv3det.measure.benchmark`: which rows a model has, and how one is opened."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch

from igcv3det.export.calibration import CalibrationSet
from igcv3det.export_formats import EXPORTED_SUFFIXES, RUNTIMES
from igcv3det.fastpath.deploy import deploy_blocks
from igcv3det.measure.benchmark import (
    BenchmarkSettings,
    Precision,
    StoredPrecision,
    checkpoint_targets,
)
from igcv3det.measure.memory import own_peak_mib, peak_of_process
from igcv3det.measure.targets import BenchmarkTarget, Library, Networks
from igcv3det.tasks.segment.checkpoint import load_segmenter
from igcv3det.tasks.segment.exported import (
    ExportedSegmenter,
    export_segmenter,
    load_exported_segmenter,
)
from igcv3det.tasks.segment.inputs import InputTransform
from igcv3det.tasks.segment.network import Segmenter


def segmenter_targets(
    name: str,
    model: Path,
    wanted: Sequence[tuple[Library, Precision]],
    settings: BenchmarkSettings,
    folder: Path,
) -> Iterator[BenchmarkTarget]:
    """The rows of a segmenter; see `igcv3det.measure.benchmark.FindTargets`."""
    if model.suffix in EXPORTED_SUFFIXES:
        own = load_exported_segmenter(model).precision
        for backend in dict.fromkeys(backend for backend, _ in wanted):
            if backend != "torch" and RUNTIMES[backend].suffix == model.suffix:
                yield BenchmarkTarget(
                    name, str(model), backend, own, settings.threads, settings.batch
                )
        return
    segmenter, classes = load_segmenter(model)

    def export(path: Path, precision: StoredPrecision) -> None:
        images = None
        if precision == "int8":
            assert settings.calibration is not None
            images = CalibrationSet(settings.calibration, InputTransform(segmenter.config))
        export_segmenter(segmenter, classes, path, precision, images)

    possible = [
        (backend, precision)
        for backend, precision in wanted
        if backend == "torch" or (backend in ("onnxruntime", "openvino") and precision != "bf16")
    ]
    yield from checkpoint_targets(name, model, possible, settings, folder, export)


def segmenter_call(
    network: Segmenter | ExportedSegmenter, batch: int = 1, dtype: torch.dtype = torch.float32
) -> Callable[[], object]:
    """A call of a segmenter alone on random input, to logits of the input's size.

    Args:
        network: exported, or on the CPU; then a deployed copy in channels-last layout is called.
        batch: batch size.
        dtype: of weights and input, unless exported.
    """
    images = torch.randn(batch, 3, *network.config.image_size)
    if isinstance(network, ExportedSegmenter):
        return partial(network.coarse_logits, images)
    deployed = deploy_blocks(network, "torch").to(dtype).to(memory_format=torch.channels_last)
    images = images.to(dtype).contiguous(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: deployed(images))


def open_segmenter(target: BenchmarkTarget) -> Callable[[], object]:
    """`segmenter_call` of a target.

    Raises:
        FileNotFoundError, ImportError, ValueError: it cannot be read.
    """
    if target.backend != "torch":
        return segmenter_call(load_exported_segmenter(target.path, target.threads), target.batch)
    torch.set_num_threads(target.threads)
    segmenter, _ = load_segmenter(target.path)
    dtype = torch.bfloat16 if target.precision == "bf16" else torch.float32
    return segmenter_call(segmenter, target.batch, dtype)


def _peak_mib(target: BenchmarkTarget) -> float:
    return peak_of_process(__spec__.name, json.dumps(target._asdict()), target.path)


SEGMENTERS = Networks(open_segmenter, _peak_mib)


if __name__ == "__main__":
    call = open_segmenter(BenchmarkTarget(**json.loads(sys.argv[1])))
    sys.stdout.write(f"{own_peak_mib(call)}\n")
