"""What takes part in a benchmark: a file, the library that runs it and the precision it runs in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from igcv3det.checkpoint import load_detector
from igcv3det.detection.postprocess import postprocess, select_detections
from igcv3det.detector import SSDLite, build_detector
from igcv3det.fastpath.deploy import deploy
from igcv3det.io.images import Image, read_image
from igcv3det.preprocess import Preprocess
from igcv3det.runtime import EXPORTED_SUFFIXES, ExportedDetector, load_exported

Backend = Literal["torch", "onnxruntime", "openvino"]
Calls = dict[str, Callable[[], object]]

NETWORK = "network"
WHOLE = "file to boxes"
LIBRARY_OF = {".onnx": "onnxruntime", ".xml": "openvino"}


class BenchmarkTarget(NamedTuple):
    """One row of a benchmark; plain values, so that another process can open it too.

    Attributes:
        model: its name in the table.
        path: what is opened: for ``torch`` a checkpoint or configuration, else an exported file.
        backend: the library.
        precision: what is computed in (the file's own, or bf16).
        threads: of the library.
        batch: images in a pass of the network.
        image_size: another input size than the detector's own, for ``torch``; pixels.
    """

    model: str
    path: str
    backend: Backend
    precision: str
    threads: int = 2
    batch: int = 1
    image_size: int | None = None


def open_network(target: BenchmarkTarget) -> Callable[[], object]:
    """A call of the network alone, on noise: images to scores and boxes, without suppression.

    Raises:
        FileNotFoundError, ImportError, ValueError: as `load_detector` and `load_exported` do.
    """
    if target.backend == "torch":
        detector = _deployed(target)
        size = detector.config.image_size
        images = torch.randn(target.batch, 3, size, size, dtype=_dtype(target))
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.inference_mode()(lambda: detector(images))
    exported = _exported(target)
    example = exported.example_input(target.batch)
    return lambda: exported(example)


def open_parts(target: BenchmarkTarget, image_file: Path) -> Calls:
    """Calls of the way from a file to boxes, one image at a time, and of its parts.

    What an exported graph does by itself (resizing, suppression) is in ``network``.

    Args:
        target: its batch does not matter.
        image_file: an image file.

    Returns:
        ``file to boxes``, ``decode``, ``resize``, ``network`` and ``NMS``.
    """
    image = read_image(image_file)
    single = target._replace(batch=1)
    parts = _torch_parts if target.backend == "torch" else _exported_parts
    resize, network, suppress = parts(single, image)
    inputs = resize(image)
    outputs = network(inputs)
    return {
        WHOLE: lambda: suppress(network(resize(read_image(image_file)))),
        "decode": lambda: read_image(image_file),
        "resize": lambda: resize(image),
        NETWORK: lambda: network(inputs),
        "NMS": lambda: suppress(outputs),
    }


def resized(detector: SSDLite, image_size: int | None) -> SSDLite:
    """The detector for another input size, with the same weights."""
    if image_size is None or image_size == detector.config.image_size:
        return detector
    config = dataclasses.replace(detector.config, image_size=image_size)
    other = build_detector(config, detector.categories)
    other.load_state_dict(detector.state_dict())
    return other.train(detector.training)


Step = Callable[..., object]


def _torch_parts(target: BenchmarkTarget, image: Image) -> tuple[Step, Step, Step]:
    detector = _deployed(target)
    config = detector.config
    prepare = Preprocess(config.preprocess, config.image_size)
    dtype, sizes = _dtype(target), [image.shape[:2]]

    def resize(image: Image) -> torch.Tensor:
        batch = prepare(image)[None].to(dtype)
        return batch.contiguous(memory_format=torch.channels_last)

    def suppress(outputs: object) -> object:
        return postprocess(
            outputs,  # type: ignore[arg-type]
            detector.anchors.float(),
            sizes,
            config.image_size,
            config.postprocess,
            config.head.activation,
            config.variances,
        )

    return resize, torch.inference_mode()(lambda images: detector(images)), suppress


def _exported_parts(target: BenchmarkTarget, image: Image) -> tuple[Step, Step, Step]:
    exported = _exported(target)
    config, size = exported.config, image.shape[:2]

    def suppress(outputs: tuple[torch.Tensor, ...]) -> object:
        if exported.spec.nms:
            return outputs
        boxes, scores = (output[0] for output in outputs)
        return select_detections(boxes, scores, size, config.image_size, config.postprocess)

    return lambda image: exported.preprocess(image)[None], exported, suppress


def _deployed(target: BenchmarkTarget) -> SSDLite:
    torch.set_num_threads(target.threads)
    detector = resized(load_detector(target.path), target.image_size)
    deployed = deploy(detector, "torch").to(_dtype(target))
    return deployed.to(memory_format=torch.channels_last)


def _exported(target: BenchmarkTarget) -> ExportedDetector:
    assert Path(target.path).suffix in EXPORTED_SUFFIXES
    return load_exported(target.path, target.threads, bf16=target.precision == "bf16")


def _dtype(target: BenchmarkTarget) -> torch.dtype:
    return torch.bfloat16 if target.precision == "bf16" else torch.float32
