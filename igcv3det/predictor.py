"""From a picture to its objects, in one call.

`Predictor` does what training and evaluation do, in the same order and with the same code: read,
`Preprocess`, network, `postprocess`. The network is anything that answers like `SSDLite`. An
exported file may do the steps around the network by itself, and so brings them all along: it comes
in as a `Pipeline`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import PIL.Image
import PIL.ImageOps
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.checkpoint import load_detector
from igcv3det.config import DetectorConfig, PostprocessConfig
from igcv3det.deploy import deploy
from igcv3det.detection.postprocess import postprocess
from igcv3det.images import Image, read_image
from igcv3det.preprocess import Preprocess
from igcv3det.released import load_released
from igcv3det.runtime import EXPORTED_SUFFIXES, load_exported
from igcv3det.structures import Categories, Detections, HeadOutputs

ImageSource = str | Path | PIL.Image.Image | NDArray[np.uint8]
Size = tuple[int, int]


class Network(Protocol):
    """What a predictor needs of a detector, whichever runtime computes it."""

    @property
    def config(self) -> DetectorConfig:
        """Input size, preprocessing, postprocessing."""

    @property
    def categories(self) -> Categories:
        """What the labels mean."""

    @property
    def anchors(self) -> Tensor:
        """[A, 4] xyxy, pixels of the network input, on the device of the outputs."""

    def __call__(self, images: Tensor) -> HeadOutputs:
        """Raw predictions for normalised images [B, 3, S, S]."""


@runtime_checkable
class Pipeline(Protocol):
    """All that lies between a picture and its detections; `ExportedDetector` is one."""

    @property
    def config(self) -> DetectorConfig:
        """Input size, preprocessing, postprocessing."""

    @property
    def categories(self) -> Categories:
        """What the labels mean."""

    def prepare(self, image: Image) -> Tensor:
        """[H, W, 3] uint8 RGB to what ``detect`` takes."""

    def detect(
        self,
        inputs: Sequence[Tensor],
        original_sizes: Sequence[Size],
        config: PostprocessConfig,
    ) -> list[Detections]:
        """The objects of prepared pictures, in their pixels."""


class Predictor:
    """Finds objects in pictures.

    Args:
        network: a detector; a module is put in evaluation mode and moved to ``device``, in place.
        device: where it runs, ``"cpu"`` or ``"cuda"``, ``"cuda:1"``, ...; a pipeline's is its own.
        score_threshold: only detections above it, in [0, 1); None takes the detector's own.
        detections_per_image: at most so many; None takes the detector's own.

    Attributes:
        categories: what the labels mean.

    Raises:
        ValueError: a device that this machine lacks, another one than the CPU for a pipeline, or a
            threshold or number out of range.

    Example:
        >>> from igcv3det import DetectorConfig, build_detector
        >>> detector = build_detector(DetectorConfig(num_classes=2, image_size=64))
        >>> predictor = Predictor(detector, score_threshold=0.9)
        >>> len(predictor(np.zeros((48, 64, 3), dtype=np.uint8)))
        0
    """

    def __init__(
        self,
        network: Network | Pipeline,
        device: str | torch.device = "cpu",
        *,
        score_threshold: float | None = None,
        detections_per_image: int | None = None,
    ) -> None:
        self.device = _existing_device(device)
        if isinstance(network, nn.Module):
            network.to(self.device).eval()
        if isinstance(network, Pipeline) and self.device.type != "cpu":
            raise ValueError(f"device {device!r}: exported files run on the cpu")
        self.network = network
        self.categories = network.categories
        own = network.config.postprocess
        self._postprocess = dataclasses.replace(
            own,
            score_threshold=own.score_threshold if score_threshold is None else score_threshold,
            detections_per_image=detections_per_image or own.detections_per_image,
        )
        self._pipeline = (
            network if isinstance(network, Pipeline) else _NetworkPipeline(network, self.device)
        )

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        device: str | torch.device = "cpu",
        *,
        score_threshold: float | None = None,
        detections_per_image: int | None = None,
    ) -> Predictor:
        """A predictor of a checkpoint or an exported file.

        Args:
            path: what `load_detector` or `load_exported` reads; None takes the released weights.
            device: as the class has it.
            score_threshold: as the class has it.
            detections_per_image: as the class has it.

        Raises:
            FileNotFoundError: no such file.
            ImportError: an exported file, and its runtime is not installed.
            ValueError: the file is no detector, or an argument is out of range.
        """
        if path is None:
            network: Network | Pipeline = deploy(load_released(), "torch")
        elif Path(path).suffix in EXPORTED_SUFFIXES:
            network = load_exported(path)
        else:
            network = deploy(load_detector(path), "torch")
        return cls(
            network,
            device,
            score_threshold=score_threshold,
            detections_per_image=detections_per_image,
        )

    def __call__(self, image: ImageSource) -> Detections:
        """The objects of one picture.

        Args:
            image: a file, a PIL image, or a uint8 RGB array [H, W, 3]. Files and PIL images are
                turned as their EXIF orientation says, so boxes are in the picture as viewers show
                it.

        Returns:
            Detections in pixels of the picture, on the CPU, with the detector's categories.

        Raises:
            ImageReadError: a file that is missing, cut off or no picture.
            ValueError: an array of another type or shape.
            TypeError: something else than a picture.
        """
        return self.predict_batch([image])[0]

    def predict_batch(self, images: Sequence[ImageSource]) -> list[Detections]:
        """The objects of several pictures, of whatever sizes, in one pass of the network.

        Raises:
            ImageReadError, ValueError, TypeError: as for one picture.
        """
        arrays = [as_array(image) for image in images]
        inputs = [self.preprocess(array) for array in arrays]
        return self.detect(inputs, [array.shape[:2] for array in arrays])

    def preprocess(self, image: Image) -> Tensor:
        """A picture [H, W, 3] as the network takes it; several threads may call this.

        Returns:
            [3, S, S] float32; the picture itself for an exported file that stretches inside.
        """
        return self._pipeline.prepare(image)

    def detect(self, inputs: Sequence[Tensor], original_sizes: Sequence[Size]) -> list[Detections]:
        """The objects of preprocessed pictures.

        Args:
            inputs: results of `preprocess`.
            original_sizes: (height, width) in pixels of each picture before that.
        """
        if not inputs:
            return []
        with torch.inference_mode():
            found = self._pipeline.detect(inputs, original_sizes, self._postprocess)
        # Cloned outside inference mode, or callers could not use the tensors with autograd.
        return [self._finished(detections) for detections in found]

    def _finished(self, found: Detections) -> Detections:
        boxes, scores, labels = (t.cpu().clone() for t in (found.boxes, found.scores, found.labels))
        return Detections(boxes, scores, labels, self.categories)


class _NetworkPipeline:
    """`Preprocess`, a network and `postprocess`."""

    def __init__(self, network: Network, device: torch.device) -> None:
        self.config, self.categories = network.config, network.categories
        self._network, self._device = network, device
        self._preprocess = Preprocess(self.config.preprocess, self.config.image_size)

    def prepare(self, image: Image) -> Tensor:
        return self._preprocess(image)

    def detect(
        self,
        inputs: Sequence[Tensor],
        original_sizes: Sequence[Size],
        config: PostprocessConfig,
    ) -> list[Detections]:
        return postprocess(
            self._network(torch.stack(list(inputs)).to(self._device)),
            self._network.anchors,
            original_sizes,
            self.config.image_size,
            config,
            self.config.head.activation,
            self.config.variances,
        )


def as_array(image: ImageSource) -> Image:
    """A picture as uint8 RGB [H, W, 3].

    Raises:
        ImageReadError: a file that is missing, cut off or no picture.
        ValueError: an array of another type or shape.
        TypeError: something else than a picture.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, PIL.Image.Image):
        return _from_pil(PIL.ImageOps.exif_transpose(image))
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
    if image.mode.startswith("I;16"):  # PIL would cut to the lower 8 bits; files keep the upper
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if "transparency" in image.info:  # PIL warns of palettes with several transparent entries
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def _existing_device(device: str | torch.device) -> torch.device:
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"no such device: {device!r}") from error
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {device!r}: this machine has {torch.cuda.device_count()} of them")
    return chosen
