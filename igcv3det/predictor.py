"""Detections from an image in one call.

An image passes through `as_array` (for a file: `read_image`), `Preprocess`, the network and
`postprocess`: the steps of evaluation, by the same code. The graph of an exported file may include
some of them; `ExportedDetector` does the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, overload

import torch
from torch import Tensor, nn

from igcv3det.checkpoint import load_detector
from igcv3det.config import DetectorConfig
from igcv3det.detection.postprocess import postprocess
from igcv3det.detection.tiles import TileDetector
from igcv3det.devices import existing_device
from igcv3det.fastpath.deploy import deploy
from igcv3det.io.image_detections import ImageDetections
from igcv3det.io.image_input import ImageSource, as_array
from igcv3det.io.images import Image
from igcv3det.preprocess import Preprocess
from igcv3det.pretrained import resolve_model
from igcv3det.runtime import EXPORTED_SUFFIXES, ExportedDetector, load_exported
from igcv3det.structures import Categories, Detections, HeadOutputs

_AT_ONCE = 16  # images of a list in one forward pass


class Network(Protocol):
    """A detector computed by PyTorch."""

    @property
    def config(self) -> DetectorConfig:
        """Of the detector."""

    @property
    def categories(self) -> Categories:
        """Ids and names of the labels."""

    @property
    def anchors(self) -> Tensor:
        """[A, 4] xyxy, pixels of the network input, on the device of the outputs."""

    def __call__(self, images: Tensor) -> HeadOutputs:
        """Raw head outputs for normalised images [B, 3, S, S]."""


class Predictor:
    """Detects objects in images. Several threads may use one predictor.

    Args:
        network: a detector; a module is put in evaluation mode and moved to ``device``, in place.
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ..., or ``"auto"`` for a GPU if there is one;
            exported files run on the CPU only.
        score_threshold: confidence threshold in [0, 1); only detections above it are returned. None
            takes the detector's own.
        detections_per_image: the most that are returned, at least 1. None takes the detector's own,
            for each tile of a tiled image.
        iou_threshold: IoU in (0, 1] above which NMS drops a box of the same class. None takes the
            detector's own.
        tile: side in pixels of the overlapping square tiles in which an image that is larger is
            detected, besides the image as a whole, for objects that are small in it; at least 16.

    Attributes:
        config: the detector's configuration.
        categories: ids and names of the labels.
        device: of the network.

    Raises:
        ValueError: the device does not exist or is not the CPU for an exported file, or
            ``score_threshold``, ``detections_per_image``, ``iou_threshold`` or ``tile`` is out of
            range, or ``iou_threshold`` is given for an exported file that includes NMS.

    Example:
        >>> import numpy as np
        >>> from igcv3det import DetectorConfig, build_detector
        >>> detector = build_detector(DetectorConfig(num_classes=2, image_size=64))
        >>> predictor = Predictor(detector, score_threshold=0.9)
        >>> len(predictor(np.zeros((48, 64, 3), dtype=np.uint8)))
        0
    """

    def __init__(
        self,
        network: Network | ExportedDetector,
        device: str | torch.device = "cpu",
        *,
        score_threshold: float | None = None,
        detections_per_image: int | None = None,
        iou_threshold: float | None = None,
        tile: int | None = None,
    ) -> None:
        self.device = existing_device(device)
        if isinstance(network, nn.Module):
            network.to(self.device).eval()
        if isinstance(network, ExportedDetector) and self.device.type != "cpu":
            raise ValueError(f"device {device!r}: exported files run on the cpu")
        if isinstance(network, ExportedDetector) and network.spec.nms and iou_threshold is not None:
            raise ValueError(f"{network.path}: includes NMS, whose IoU threshold is fixed")
        self.network = network
        self.config, self.categories = network.config, network.categories
        limits = {
            "score_threshold": score_threshold,
            "detections_per_image": detections_per_image,
            "iou_threshold": iou_threshold,
        }
        given: dict[str, Any] = {key: value for key, value in limits.items() if value is not None}
        self._postprocess = dataclasses.replace(self.config.postprocess, **given)
        self._tiles = None
        if tile is not None:
            # More at once exceed a processor's cache: a fifth more time for each
            at_once = 2 if self.device.type == "cpu" else _AT_ONCE
            iou_threshold = self._postprocess.iou_threshold
            self._tiles = TileDetector(tile, iou_threshold, detections_per_image, at_once)
        self._preprocess = Preprocess(self.config.preprocess, self.config.image_size)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        device: str | torch.device = "cpu",
        *,
        score_threshold: float | None = None,
        detections_per_image: int | None = None,
        iou_threshold: float | None = None,
        tile: int | None = None,
    ) -> Predictor:
        """Loads a checkpoint or an exported file.

        Args:
            model: a file for `load_detector` or `load_exported`, or a name of pretrained weights;
                None takes the default weights.
            device: see the class.
            score_threshold: see the class.
            detections_per_image: see the class.
            iou_threshold: see the class.
            tile: see the class.

        Raises:
            FileNotFoundError: there is no such file.
            ImportError: the runtime of an exported file is not installed.
            ValueError: the file is not a detector, or an argument is out of range.
        """
        file = resolve_model(model)
        network: Network | ExportedDetector
        if file.suffix in EXPORTED_SUFFIXES:
            network = load_exported(file)
        else:
            network = deploy(load_detector(file), "torch")
        return cls(
            network,
            device,
            score_threshold=score_threshold,
            detections_per_image=detections_per_image,
            iou_threshold=iou_threshold,
            tile=tile,
        )

    @overload
    def __call__(
        self,
        image: ImageSource,
        *,
        threshold: float | None = None,
        classes: str | int | Iterable[str | int] | None = None,
    ) -> ImageDetections: ...

    @overload
    def __call__(
        self,
        image: list[Any] | tuple[Any, ...],
        *,
        threshold: float | None = None,
        classes: str | int | Iterable[str | int] | None = None,
    ) -> list[ImageDetections]: ...

    def __call__(
        self,
        image: ImageSource | list[Any] | tuple[Any, ...],
        *,
        threshold: float | None = None,
        classes: str | int | Iterable[str | int] | None = None,
    ) -> ImageDetections | list[ImageDetections]:
        """Detects the objects of one image, or of each image of a list.

        Args:
            image: a file, a PIL image, or a uint8 RGB array [H, W, 3]. The EXIF orientation of
                files and PIL images is applied, so boxes refer to the image as viewers show it.
            threshold: confidence threshold of this call; None takes the predictor's.
            classes: names or category ids of the classes to return, or one of them; None returns
                all.

        Returns:
            Detections in pixels of the image, on the CPU, with the detector's categories; a list of
            them for a list.

        Raises:
            ImageReadError, ValueError, TypeError: see `io.image_input.as_array`; ValueError also
                for a threshold out of range or a class that the detector does not have.
        """
        if isinstance(image, (list, tuple)):
            chunks = [image[start : start + _AT_ONCE] for start in range(0, len(image), _AT_ONCE)]
            found = [self.predict_batch(c, threshold=threshold, classes=classes) for c in chunks]
            return [detections for chunk in found for detections in chunk]
        return self.predict_batch([image], threshold=threshold, classes=classes)[0]

    def predict_batch(
        self,
        images: Sequence[ImageSource],
        *,
        threshold: float | None = None,
        classes: str | int | Iterable[str | int] | None = None,
    ) -> list[ImageDetections]:
        """Detects the objects of several images, of any sizes, in one forward pass.

        Arguments and errors are those of a call.
        """
        labels = None
        if classes is not None:
            labels = torch.tensor(self.categories.labels_of(classes), dtype=torch.int64)
        arrays = [as_array(image) for image in images]
        detect = partial(self._detect_arrays, threshold=threshold, labels=labels)
        found = detect(arrays) if self._tiles is None else self._tiles(arrays, detect)
        return [
            ImageDetections(one.boxes, one.scores, one.labels, one.categories, source=image)
            for one, image in zip(found, images, strict=True)
        ]

    def _detect_arrays(
        self, images: Sequence[Image], threshold: float | None, labels: Tensor | None
    ) -> list[Detections]:
        inputs, sizes = [self.preprocess(x) for x in images], [x.shape[:2] for x in images]
        return self.detect(inputs, sizes, threshold=threshold, labels=[labels] * len(images))

    def preprocess(self, image: Image) -> Tensor:
        """The network input of an image [H, W, 3].

        Returns:
            [3, S, S] float32; the image itself for an exported file that preprocesses inside.
        """
        if isinstance(self.network, ExportedDetector):
            return self.network.preprocess(image)
        return self._preprocess(image)

    def detect(
        self,
        inputs: Sequence[Tensor],
        original_sizes: Sequence[tuple[int, int]],
        *,
        threshold: float | None = None,
        labels: Sequence[Tensor | None] | None = None,
    ) -> list[Detections]:
        """Detects the objects of preprocessed images.

        Args:
            inputs: results of `preprocess`.
            original_sizes: (height, width) in pixels of each image before preprocessing.
            threshold: confidence threshold in [0, 1); None takes the predictor's.
            labels: of the classes that are wanted in each image; None takes all.

        Returns:
            One record an image.
        """
        if not inputs:
            return []
        options = self._postprocess
        if threshold is not None:
            options = dataclasses.replace(options, score_threshold=threshold)
        with torch.inference_mode():
            if isinstance(self.network, ExportedDetector):
                found = self.network.detect(inputs, original_sizes, options, labels)
            else:
                outputs = self.network(torch.stack(list(inputs)).to(self.device))
                found = postprocess(
                    outputs,
                    self.network.anchors,
                    original_sizes,
                    self.config.image_size,
                    options,
                    self.config.head.activation,
                    self.config.variances,
                    labels,
                )
        # Cloned outside inference mode, so that callers can use the tensors with autograd
        return [
            Detections(
                one.boxes.cpu().clone(),
                one.scores.cpu().clone(),
                one.labels.cpu().clone(),
                self.categories,
            )
            for one in found
        ]
