"""Detections from an image in one call.

An image passes through `as_array` (for a file: `read_image`), `Preprocess`, the network and
`postprocess`: the steps of evaluation, by the same code. The graph of an exported file may include
some of them; `ExportedDetector` does the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.checkpoint import load_detector
from igcv3det.config import DetectorConfig
from igcv3det.detection.postprocess import postprocess
from igcv3det.fastpath.deploy import deploy
from igcv3det.io.images import Image, ImageReadError, read_image
from igcv3det.preprocess import Preprocess
from igcv3det.pretrained import resolve_model
from igcv3det.runtime import EXPORTED_SUFFIXES, ExportedDetector, load_exported
from igcv3det.structures import Categories, Detections, HeadOutputs

ImageSource = str | Path | PIL.Image.Image | NDArray[np.uint8]
Size = tuple[int, int]


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
        device: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...; exported files run on the CPU only.
        score_threshold: confidence threshold in [0, 1); only detections above it are returned. None
            takes the detector's own.
        detections_per_image: the most that are returned, at least 1. None takes the detector's own.

    Attributes:
        config: the detector's configuration.
        categories: ids and names of the labels.
        device: of the network.

    Raises:
        ValueError: the device does not exist or is not the CPU for an exported file, or
            ``score_threshold`` or ``detections_per_image`` is out of range.

    Example:
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
    ) -> None:
        self.device = _existing_device(device)
        if isinstance(network, nn.Module):
            network.to(self.device).eval()
        if isinstance(network, ExportedDetector) and self.device.type != "cpu":
            raise ValueError(f"device {device!r}: exported files run on the cpu")
        self.network = network
        self.config, self.categories = network.config, network.categories
        own = self.config.postprocess
        self._postprocess = dataclasses.replace(
            own,
            score_threshold=own.score_threshold if score_threshold is None else score_threshold,
            detections_per_image=(
                own.detections_per_image if detections_per_image is None else detections_per_image
            ),
        )
        self._preprocess = Preprocess(self.config.preprocess, self.config.image_size)

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        device: str | torch.device = "cpu",
        *,
        score_threshold: float | None = None,
        detections_per_image: int | None = None,
    ) -> Predictor:
        """Loads a checkpoint or an exported file.

        Args:
            model: a file for `load_detector` or `load_exported`, or a name of pretrained weights;
                None takes the default weights.
            device: see the class.
            score_threshold: see the class.
            detections_per_image: see the class.

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
        )

    def __call__(self, image: ImageSource) -> Detections:
        """Detects the objects of one image.

        Args:
            image: a file, a PIL image, or a uint8 RGB array [H, W, 3]. The EXIF orientation of
                files and PIL images is applied, so boxes refer to the image as viewers show it.

        Returns:
            Detections in pixels of the image, on the CPU, with the detector's categories.

        Raises:
            ImageReadError, ValueError, TypeError: see `as_array`.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[ImageSource]) -> list[Detections]:
        """Detects the objects of several images, of any sizes, in one forward pass.

        Raises:
            ImageReadError, ValueError, TypeError: see `as_array`.
        """
        arrays = [as_array(image) for image in images]
        inputs = [self.preprocess(array) for array in arrays]
        return self.detect(inputs, [array.shape[:2] for array in arrays])

    def preprocess(self, image: Image) -> Tensor:
        """The network input of an image [H, W, 3].

        Returns:
            [3, S, S] float32; the image itself for an exported file that preprocesses inside.
        """
        if isinstance(self.network, ExportedDetector):
            return self.network.preprocess(image)
        return self._preprocess(image)

    def detect(self, inputs: Sequence[Tensor], original_sizes: Sequence[Size]) -> list[Detections]:
        """Detects the objects of preprocessed images.

        Args:
            inputs: results of `preprocess`.
            original_sizes: (height, width) in pixels of each image before preprocessing.

        Returns:
            One record an image, as `__call__` returns it.
        """
        if not inputs:
            return []
        with torch.inference_mode():
            if isinstance(self.network, ExportedDetector):
                found = self.network.detect(inputs, original_sizes, self._postprocess)
            else:
                outputs = self.network(torch.stack(list(inputs)).to(self.device))
                found = postprocess(
                    outputs,
                    self.network.anchors,
                    original_sizes,
                    self.config.image_size,
                    self._postprocess,
                    self.config.head.activation,
                    self.config.variances,
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


def as_array(image: ImageSource) -> Image:
    """An image as uint8 RGB [H, W, 3].

    Raises:
        ImageReadError: the file is missing, cut off or no image.
        ValueError: an array of another type or shape, or a PIL image of mode F or I, whose values
            have no fixed range.
        TypeError: ``image`` is none of these.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, PIL.Image.Image):
        return _from_pil(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"an image is a path, a PIL image or a NumPy array, got {type(image).__name__}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(
            f"an image array must be uint8 RGB [H, W, 3] with values 0..255, got {image.dtype} "
            f"{list(image.shape)}"
        )
    return image


def _from_pil(image: PIL.Image.Image) -> Image:
    if image.mode in ("F", "I"):
        raise ValueError(
            f"a PIL image of mode {image.mode} has no fixed range of values; scale it to 0..255 "
            "and convert it to a uint8 array"
        )
    try:
        image = PIL.ImageOps.exif_transpose(image)
        if image.mode.startswith("I;16"):  # PIL would keep the lower 8 bits; files keep the upper
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(grey[:, :, None], 3, axis=2)
        if image.mode == "La":
            image = image.convert("LA")
        if "transparency" in image.info:  # PIL warns of palettes with several transparent entries
            image = image.convert("RGBA")
        return np.array(image.convert("RGB"))
    except OSError as error:  # PIL reads the file only now
        raise ImageReadError(f"{getattr(image, 'filename', '') or 'image'}: {error}") from None


def _existing_device(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"no such device: {device!r}") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r}: this machine has {torch.cuda.device_count()} of them")
    return chosen
