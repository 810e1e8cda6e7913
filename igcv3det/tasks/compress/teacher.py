"""What a search needs to know of the kind of network that it makes smaller."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from igcv3det.config import BlockConfig
from igcv3det.fastpath.deploy import Variant
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.design import Design
from igcv3det.tasks.compress.parts import Part

Metrics = Mapping[str, Tensor]
"""Fisher information [C, C] by name of the value."""
Values = Mapping[str, Tensor]
"""Values of parts by name."""
Pixels = NDArray[np.uint8]
Size = tuple[int, int]


class Teacher(ABC):
    """The network that is made smaller; a subclass for each kind.

    Attributes:
        kind: of network, as it is called in messages.
        divergence_name: of what, in reports.
        backends: that run it.
        network: with listed blocks, in evaluation mode.
        design: of the network.
        size: (height, width) of its input, pixels.
        blocks: of its backbone.
        outputs: names of the values that the divergence compares.
    """

    kind: ClassVar[str]
    divergence_name: ClassVar[str]
    backends: ClassVar[Sequence[str]]
    network: nn.Module
    design: Design
    size: Size
    blocks: tuple[BlockConfig, ...]
    outputs: tuple[str, ...]

    @abstractmethod
    def build(self, design: Design) -> nn.Module:
        """A network of a design with random weights, in evaluation mode.

        Raises:
            ValueError: the design's parts do not fit together.
        """

    def at_size(self, network: nn.Module, size: Size) -> nn.Module:
        """A network of any design for inputs of another (height, width), pixels.

        Raises:
            ValueError: this kind of network keeps its input size.
        """
        if size != self.size:
            raise ValueError(f"--image-size: a {self.kind} keeps its input size")
        return network

    @abstractmethod
    def split(self, network: nn.Module, design: Design) -> dict[str, Part]:
        """The parts of a network by position, in the order in which they run.

        Args:
            network: built from ``design``, or a deployed copy.
            design: says how many blocks stand in each place.
        """

    def parts(self) -> dict[str, Part]:
        """The teacher's own parts."""
        return self.split(self.network, self.design)

    @abstractmethod
    def candidates(self, grouped_stages: tuple[int, ...] = ()) -> dict[str, list[Candidate]]:
        """All candidates by position, the original first.

        Raises:
            ValueError: a block of ``grouped_stages`` cannot be grouped.
        """

    @abstractmethod
    def start_part(self, part: Part, original: Part, inputs: Tensor, metrics: Metrics) -> None:
        """Gives a replacement that is no block its initial weights, in place."""

    @abstractmethod
    def normalize(self, image: Pixels) -> Tensor:
        """[3, H, W] of an image [H, W, 3] of the input's size."""

    def inputs(self, pixels: Pixels) -> Tensor:
        """[B, 3, H, W] of images [B, H, W, 3] of the input's size."""
        images = torch.stack([self.normalize(image) for image in pixels])
        return images.contiguous(memory_format=torch.channels_last)

    @abstractmethod
    def divergence(self, own: Values, teacher: Values) -> Tensor:
        """[B] nats, of a network's outputs from the teacher's, by name."""

    @abstractmethod
    def fisher_probe(self, found: Values, generator: torch.Generator) -> Tensor:
        """The outputs times a random vector whose covariance is their Fisher information: a scalar.

        Its gradients at a value have the Fisher information about that value as covariance: half of
        ``d^T F d`` is the divergence that a small error d causes.
        """

    def output_loss(self, name: str, own: Tensor, teacher: Tensor) -> Tensor | None:
        """Divergence of one output [B, C, H, W] alone, nats for an image, the mean over images.

        None where it is no sum over outputs and cells: the Fisher information is taken instead.
        """
        del name, own, teacher
        return None

    @abstractmethod
    def final_command(
        self, file: Path, unchanged: Sequence[str], images: str, image_count: int
    ) -> str:
        """The command that trains a network as a whole, in words that a shell takes.

        Args:
            file: of the network.
            unchanged: its leading stages that are the teacher's.
            images: the folder that was searched with.
            image_count: images in it that can be read.
        """

    @abstractmethod
    def deploy(self, network: nn.Module, variant: Variant) -> nn.Module:
        """The network as it runs, its blocks in a variant."""

    @abstractmethod
    def whole(self, network: nn.Module, design: Design) -> tuple[nn.Module, tuple[str, ...]]:
        """What of a deployed network is timed, and the names of its outputs."""

    @abstractmethod
    def neighbours(self, position: str) -> list[str]:
        """A position and those around it, between which it is timed: they read one value."""

    @abstractmethod
    def save(self, network: nn.Module, path: Path, source: str) -> None:
        """Writes a network of another design as a self-describing file."""
