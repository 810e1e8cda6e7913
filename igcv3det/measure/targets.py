"""What a benchmark times: a file, the library that runs it and its precision, opened for timing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from igcv3det.checkpoint import load_detector
from igcv3det.detection.postprocess import postprocess, select_detections
from igcv3det.detector import SSDLite, at_input_size
from igcv3det.fastpath.deploy import deploy
from igcv3det.io.images import Image, read_image
from igcv3det.preprocess import Preprocess
from igcv3det.runtime import EXPORTED_SUFFIXES, ExportedDetector, load_exported

Backend = Literal["torch", "onnxruntime", "openvino"]
"""Libraries for which `igcv3det.fastpath.deploy` chooses the fastest blocks."""
Library = Backend | Literal["ncnn", "litert", "executorch"]
"""All that a benchmark times."""
Calls = dict[str, Callable[[], object]]
Step = Callable[..., object]

NETWORK = "network"
PIPELINE = "file to boxes"


class BenchmarkTarget(NamedTuple):
    """One row of a benchmark, as plain values that another process can open too.

    Attributes:
        model: its name in the table.
        path: what is opened: a checkpoint or configuration for ``torch``, else an exported file.
        backend: the library.
        precision: of the computation (the file's own, or bf16).
        threads: of the library.
        batch: batch size.
        image_size: another input size than the detector's own, for ``torch``; pixels.
    """

    model: str
    path: str
    backend: Library
    precision: str
    threads: int = 2
    batch: int = 1
    image_size: int | None = None


class Networks(NamedTuple):
    """How the targets of a group are opened.

    Attributes:
        open: returns a call of the network alone.
        peak_mib: measures the memory of a process that runs it.
    """

    open: Callable[[BenchmarkTarget], Callable[[], object]]
    peak_mib: Callable[[BenchmarkTarget], float]


def unique_names(models: Sequence[Path]) -> dict[str, Path]:
    """Models by file stem, or by whole path where stems are alike; repeated models only once."""
    once = list(dict.fromkeys(models))
    stems = [path.stem for path in once]
    return {path.stem if stems.count(path.stem) == 1 else str(path): path for path in once}


def open_network(target: BenchmarkTarget) -> Callable[[], object]:
    """A call of the network alone on random input, images to scores and boxes, without NMS.

    Raises:
        FileNotFoundError, ImportError, ValueError: from `load_detector` and `load_exported`.
    """
    if target.backend == "torch":
        return network_call(_detector(target), target.batch, _dtype(target))
    return network_call(_exported(target), target.batch)


def network_call(
    detector: SSDLite | ExportedDetector, batch: int = 1, dtype: torch.dtype = torch.float32
) -> Callable[[], object]:
    """A call of a detector's network alone on random input.

    Args:
        detector: exported, or on the CPU; then a deployed copy in channels-last layout is called.
        batch: batch size.
        dtype: of weights and input, unless exported.
    """
    if isinstance(detector, ExportedDetector):
        example = detector.example_input(batch)
        return lambda: detector(example)
    deployed = _deployed(detector, dtype)
    size = detector.config.image_size
    images = torch.randn(batch, 3, size, size, dtype=dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    return torch.inference_mode()(lambda: deployed(images))


def open_pipeline(target: BenchmarkTarget, image_file: Path) -> Calls:
    """Calls of the whole pipeline from an image file to boxes, and of each of its stages.

    Stages that an exported graph includes (resize, NMS) are part of ``network``.

    Args:
        target: its batch size is not used.
        image_file: an image file.

    Returns:
        ``file to boxes``, ``decode``, ``resize``, ``network`` and ``NMS``.
    """
    image = read_image(image_file)
    single = target._replace(batch=1)
    stages = _torch_stages if target.backend == "torch" else _exported_stages
    resize, network, nms = stages(single, image)
    inputs = resize(image)
    outputs = network(inputs)
    return {
        PIPELINE: lambda: nms(network(resize(read_image(image_file)))),
        "decode": lambda: read_image(image_file),
        "resize": lambda: resize(image),
        NETWORK: lambda: network(inputs),
        "NMS": lambda: nms(outputs),
    }


def resized(detector: SSDLite, image_size: int | None) -> SSDLite:
    """The detector for another input size, with the same weights."""
    if image_size is None or image_size == detector.config.image_size:
        return detector
    return at_input_size(detector, image_size)


def _torch_stages(target: BenchmarkTarget, image: Image) -> tuple[Step, Step, Step]:
    detector = _deployed(_detector(target), _dtype(target))
    config = detector.config
    preprocess = Preprocess(config.preprocess, config.image_size)
    dtype, sizes = _dtype(target), [image.shape[:2]]

    def resize(image: Image) -> Tensor:
        batch = preprocess(image)[None].to(dtype)
        return batch.contiguous(memory_format=torch.channels_last)

    def nms(outputs: object) -> object:
        return postprocess(
            outputs,  # type: ignore[arg-type]
            detector.anchors.float(),
            sizes,
            config.image_size,
            config.postprocess,
            config.head.activation,
            config.variances,
        )

    return resize, torch.inference_mode()(lambda images: detector(images)), nms


def _exported_stages(target: BenchmarkTarget, image: Image) -> tuple[Step, Step, Step]:
    exported = _exported(target)
    config, size = exported.config, image.shape[:2]

    def nms(outputs: tuple[Tensor, ...]) -> object:
        if exported.spec.nms:
            return outputs
        boxes, scores = (output[0] for output in outputs)
        return select_detections(boxes, scores, size, config.image_size, config.postprocess)

    return lambda image: exported.preprocess(image)[None], exported, nms


def _detector(target: BenchmarkTarget) -> SSDLite:
    torch.set_num_threads(target.threads)
    return resized(load_detector(target.path), target.image_size)


def _deployed(detector: SSDLite, dtype: torch.dtype) -> SSDLite:
    return deploy(detector, "torch").to(dtype).to(memory_format=torch.channels_last)


def _exported(target: BenchmarkTarget) -> ExportedDetector:
    assert Path(target.path).suffix in EXPORTED_SUFFIXES
    return load_exported(target.path, target.threads, bf16=target.precision == "bf16")


def _dtype(target: BenchmarkTarget) -> torch.dtype:
    return torch.bfloat16 if target.precision == "bf16" else torch.float32
