"""From an image to the class of every pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, cast

import numpy as np
import torch
from torch import Tensor

from igcv3det.devices import existing_device
from igcv3det.fastpath.deploy import deploy_blocks
from igcv3det.io.image_input import ImageSource, as_array
from igcv3det.io.images import Image
from igcv3det.pretrained import resolve_model
from igcv3det.runtime import EXPORTED_SUFFIXES
from igcv3det.tasks.segment.checkpoint import load_segmenter
from igcv3det.tasks.segment.config import SegmenterConfig
from igcv3det.tasks.segment.exported import load_exported_segmenter
from igcv3det.tasks.segment.inputs import InputTransform
from igcv3det.tasks.segment.masks import ClassLabels, Mask
from igcv3det.tasks.segment.network import resize_logits


class LogitsNetwork(Protocol):
    """A `Segmenter`, or an exported one."""

    config: SegmenterConfig

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Logits [B, K, h, w], of any size, of normalised images [B, 3, H, W]."""


@dataclass(frozen=True)
class Segmentation:
    """The classes of an image's pixels.

    Attributes:
        mask: [H, W] uint8 classes 0 to K - 1.
        classes: their names, and the labels that the data's masks have for them.
    """

    mask: Mask
    classes: ClassLabels

    @property
    def labels(self) -> Mask:
        """[H, W] uint8 labels, as the masks have them that the network was trained on."""
        return self.classes.to_labels(self.mask)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the pixels of each class that has any, the largest first."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.classes.names))
        order = np.argsort(-counts, kind="stable")
        total = self.mask.size
        return {self.classes.names[i]: float(counts[i] / total) for i in order if counts[i]}


class SegmentationPredictor:
    """Segments images of any size.

    Args:
        network: a segmenter; a module is put in evaluation mode and moved to ``device``, in place.
        classes: names and labels of its classes.
        device: ``"cpu"``, ``"cuda"``, ... or ``"auto"``; exported files run on the CPU only.

    Raises:
        ValueError: the device does not exist, or is not the CPU for an exported file.

    Example:
        >>> from igcv3det.tasks.segment.network import Segmenter
        >>> config = SegmenterConfig(num_classes=2, image_size=(32, 32))
        >>> classes = ClassLabels((0, 1), (), ("road", "sky"))
        >>> predictor = SegmentationPredictor(Segmenter(config, classes.names), classes)
        >>> predictor(np.zeros((40, 50, 3), np.uint8)).mask.shape
        (40, 50)
    """

    def __init__(
        self,
        network: LogitsNetwork,
        classes: ClassLabels,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = existing_device(device)
        self.classes = classes
        if isinstance(network, torch.nn.Module):
            network.to(self.device).eval()
        elif self.device.type != "cpu":
            raise ValueError(f"device {device!r}: exported files run on the cpu")
        self.network = network
        self.preprocess = InputTransform(network.config)

    @classmethod
    def load(cls, model: str | Path, device: str | torch.device = "cpu") -> Self:
        """Reads a segmenter.

        Args:
            model: ``*.safetensors``, ``*.ckpt``, ``*.yaml`` (random weights), ``*.onnx`` or
                ``*.xml``.
            device: see the class.

        Raises:
            FileNotFoundError, ImportError, ValueError: it cannot be read, or is no segmenter.
        """
        path = resolve_model(model)
        if path.suffix in EXPORTED_SUFFIXES:
            exported = load_exported_segmenter(path)
            return cls(exported, exported.classes, device)
        segmenter, classes = load_segmenter(path)
        if existing_device(device).type == "cpu":
            segmenter = deploy_blocks(segmenter, "torch")
        return cls(segmenter, classes, device)

    def __call__(self, image: ImageSource) -> Segmentation:
        """Segments an image: a path, a PIL image or a uint8 RGB array [H, W, 3].

        Raises:
            ImageReadError: a file that cannot be read.
            ValueError, TypeError: an array of another type or shape.
        """
        array = as_array(image)
        (mask,) = self.segment([self.preprocess(array)], [_size(array)])
        return Segmentation(mask, self.classes)

    @torch.inference_mode()
    def segment(self, inputs: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> list[Mask]:
        """Classes of preprocessed images.

        Args:
            inputs: results of ``preprocess``.
            sizes: (height, width) of each image, and of its mask.

        Returns:
            [H, W] uint8 for each image.
        """
        batch = torch.stack(list(inputs)).to(self.device)
        logits = self.network.coarse_logits(batch.contiguous(memory_format=torch.channels_last))
        return [best_classes(own, size) for own, size in zip(logits, sizes, strict=True)]


def best_classes(logits: Tensor, size: tuple[int, int]) -> Mask:
    """[H, W] uint8: the class of the largest logit, of logits [K, h, w] resized to (H, W).

    Class by class, so that memory does not grow with their number.
    """
    best = resize_logits(logits[None, :1].contiguous(), size)[0, 0]
    classes = torch.zeros(size, dtype=torch.uint8, device=logits.device)
    for label in range(1, len(logits)):
        own = resize_logits(logits[None, label : label + 1].contiguous(), size)[0, 0]
        higher = own > best
        classes[higher] = label
        best = torch.where(higher, own, best)
    return cast("Mask", classes.cpu().numpy())


def _size(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]
