"""The parts of a detector as modules that exporters trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from igcv3det.checkpoint import describe_detector
from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detection.postprocess import class_scores
from igcv3det.detector import SSDLite
from igcv3det.fastpath.deploy import ChooseVariant, Variant, deploy
from igcv3det.models.layers import SameConv2d, same_padding
from igcv3det.runtime.export_spec import EXPORT, ExportSpec
from igcv3det.structures import HeadOutputs


class Network(nn.Module):
    """A detector in the stored precision with float32 input and outputs."""

    def __init__(self, detector: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.detector = detector.to(dtype)
        self.dtype = dtype
        for module in self.detector.modules():
            if isinstance(module, nn.ReLU6):
                module.inplace = False  # in place it takes the tracer twice as long

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, A, K + 1] and offsets [B, A, 4] of images [B, 3, S, S]."""
        outputs: HeadOutputs = self.detector(images.to(self.dtype))
        return outputs.logits.float(), outputs.offsets.float()


class Decoding(nn.Module):
    """Logits and offsets to clipped boxes and scores."""

    def __init__(self, detector: SSDLite) -> None:
        super().__init__()
        self.config = detector.config
        self.coder = BoxCoder(detector.config.variances)
        self.anchors: Tensor
        self.register_buffer("anchors", detector.anchors.cpu())

    def forward(self, logits: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, A, 4] in pixels of the input and scores [B, A, K]."""
        boxes = self.coder.decode(offsets, self.anchors)
        scores = class_scores(logits, self.config.head.activation)
        return boxes.clamp(min=0, max=self.config.image_size), scores


class NetworkAndDecoding(nn.Module):
    """Both in one, in float32, for formats whose converter takes a whole module.

    Args:
        detector: left unchanged.
        variant: of its blocks; see `deploy`.
    """

    def __init__(self, detector: SSDLite, variant: Variant | ChooseVariant) -> None:
        super().__init__()
        self.network: nn.Module = Network(deploy(detector, variant).cpu(), torch.float32)
        self.decoding = Decoding(detector)
        self.eval()
        fix_padding(self.network, self.example())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes [B, A, 4] and scores [B, A, K] of images [B, 3, S, S]."""
        boxes, scores = self.decoding(*self.network(images))
        return boxes, scores

    def example(self) -> Tensor:
        """An input to trace with: one image."""
        size = self.decoding.config.image_size
        return torch.zeros(1, 3, size, size)


def description_of(detector: SSDLite, spec: ExportSpec) -> dict[str, Any]:
    """The description in an exported file: a checkpoint's, and the spec of the export."""
    return {**describe_detector(detector), EXPORT: spec.as_description(detector.config)}


def fix_padding(network: nn.Module, example: Tensor) -> None:
    """Replaces convolutions that compute their padding by plain ones, for the example's size.

    pnnx 20261020 drops the padding of a convolution that follows a symmetric `F.pad`.
    """
    inputs: dict[SameConv2d, Tensor] = {}
    hooks = [
        module.register_forward_pre_hook(lambda conv, args: inputs.update({conv: args[0]}))
        for module in network.modules()
        if isinstance(module, SameConv2d)
    ]
    with torch.no_grad():
        network(example)
    for hook in hooks:
        hook.remove()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SameConv2d):
                pads = same_padding(inputs[child], child.kernel_size, child.stride)
                setattr(parent, name, _with_padding(child, pads))


def _with_padding(conv: nn.Conv2d, pads: list[int]) -> nn.Module:
    """The convolution with fixed pads (left, right, top, bottom)."""
    left, right, top, bottom = pads
    is_symmetric = left == right and top == bottom
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        (conv.kernel_size[0], conv.kernel_size[1]),
        (conv.stride[0], conv.stride[1]),
        (top, left) if is_symmetric else 0,
        (conv.dilation[0], conv.dilation[1]),
        conv.groups,
        device="meta",
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    return plain if is_symmetric else nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain)
