"""A copy of a detector for inference: norms folded, no permutation, the fastest block variant.

The function stays the same, the weights move: each grouped block and extra layer is written in one
of the variants of `igcv3det.fastpath.block_variants`; all else only has its norms folded.
`VARIANTS` follows measurements that ``python research/block_variants.py`` repeats.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from igcv3det.detector import SSDLite
from igcv3det.fastpath.block_variants import (
    Block,
    BlockVariant,
    WeightLayout,
    block_convs,
    block_layout,
    dense_elements,
    gather_weight,
    grouped_blocks,
)
from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.models.igcv3 import IGCV3
from igcv3det.models.layers import BATCH_NORMS, ChannelPermutation

Network = TypeVar("Network", bound=nn.Module)
Variant = Literal[
    "permuted",
    "dense",
    "mixed",
    "grouped",
    "torch",
    "onnxruntime",
    "openvino",
    "ncnn",
    "litert",
    "executorch",
]
ChooseVariant = Callable[[Block], BlockVariant]

DENSE = BlockVariant("dense", "dense")
MIXED = BlockVariant("dense", "grouped")
GROUPED = BlockVariant("grouped", "grouped")
NATURAL = BlockVariant("grouped", "dense")  # the expansion's channels keep their order
_LANES = 16  # float32 channels of an AVX-512 register: ONNX Runtime's and OpenVINO's channel blocks


def deploy(detector: SSDLite, variant: Variant | ChooseVariant = "onnxruntime") -> SSDLite:
    """A copy that computes the same function, for inference.

    Its state dict differs from the detector's: save the detector, not this copy.

    Args:
        detector: on any device; it is left unchanged.
        variant: a library, for the fastest variant of each block there (eager ``torch`` in
            channels-last layout, which the copy then has); one variant for all blocks; or a
            function that chooses for a block. ``permuted`` only folds the norms.

    Returns:
        On the detector's device, in evaluation mode, without gradients.

    Example:
        >>> from igcv3det import DetectorConfig, build_detector
        >>> detector = build_detector(DetectorConfig(num_classes=2, image_size=64)).eval()
        >>> images = torch.rand(1, 3, 64, 64)
        >>> with torch.no_grad():
        ...     change = deploy(detector)(images).logits - detector(images).logits
        >>> bool(change.abs().max() < 1e-5)
        True
    """
    deployed = copy.deepcopy(detector).eval().requires_grad_(False)
    set_conv_impl(deployed, "reference")
    _fold_norms(deployed)
    if variant != "permuted":
        _rewrite_all(deployed, VARIANTS[variant] if isinstance(variant, str) else variant)
    if variant == "torch":
        deployed.to(memory_format=torch.channels_last)
    return deployed


def deploy_blocks(network: Network, variant: Variant) -> Network:
    """As `deploy`, for a network that reads no expansion as a feature map, such as a segmenter.

    Args:
        network: on any device; it is left unchanged.
        variant: see `deploy`.
    """
    deployed = copy.deepcopy(network).eval().requires_grad_(False)
    set_conv_impl(deployed, "reference")
    _fold_norms(deployed)
    if variant != "permuted":
        for block in list(grouped_blocks(deployed)):
            _rewrite(block, VARIANTS[variant](block))
    if variant == "torch":
        deployed.to(memory_format=torch.channels_last)
    return deployed


class ChannelRepeat(nn.Module):
    """Repeats all channels: x0 x1 becomes x0 x1 x0 x1.

    Args:
        times: number of copies in the output.

    Example:
        >>> ChannelRepeat(2)(torch.tensor([1, 2]).reshape(1, 2, 1, 1)).flatten().tolist()
        [1, 2, 1, 2]
    """

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, H, W] to [B, times C, H, W]."""
        return torch.cat([x] * self.times, dim=1)

    def extra_repr(self) -> str:
        """Shown by ``print(model)``."""
        return str(self.times)


def _onnxruntime_variant(block: Block) -> BlockVariant:
    # A grouped convolution whose groups are not whole channel blocks leaves ONNX Runtime's blocked
    # layout; converting there and back costs more than multiplying zeros
    expand, _, project = block_convs(block)
    is_whole = _is_whole(project.in_channels, project.out_channels, project.groups)
    groups = expand.groups * (project.groups if is_whole else 1)
    is_grouped = _is_whole(expand.in_channels, expand.in_channels, expand.groups)
    is_grouped &= expand.out_channels % (_LANES * groups) == 0
    return BlockVariant("grouped" if is_grouped else "dense", "grouped" if is_whole else "dense")


def _openvino_variant(block: Block) -> BlockVariant:
    # A grouped projection is faster at any width, a grouped expansion only with whole blocks
    expand, _, project = block_convs(block)
    is_grouped = _is_whole(expand.in_channels, expand.in_channels, expand.groups)
    is_grouped &= expand.out_channels % (_LANES * expand.groups * project.groups) == 0
    return GROUPED if is_grouped else MIXED


def _is_whole(in_channels: int, out_channels: int, groups: int) -> bool:
    return in_channels % (_LANES * groups) == 0 and out_channels % (_LANES * groups) == 0


VARIANTS: dict[str, ChooseVariant] = {
    "dense": lambda _: DENSE,
    "mixed": lambda _: MIXED,
    "grouped": lambda _: GROUPED,
    "torch": lambda _: MIXED,
    "onnxruntime": _onnxruntime_variant,
    "openvino": _openvino_variant,
    # docs/devices.md; ExecuTorch computes with XNNPACK, as LiteRT does
    "ncnn": lambda _: MIXED,
    "litert": lambda _: MIXED,
    "executorch": lambda _: MIXED,
}
"""The choice of every name but ``permuted``."""


def _fold_norms(module: nn.Module) -> None:
    for sequence in module.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for index in reversed(range(len(sequence) - 1)):
            conv, norm = sequence[index], sequence[index + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BATCH_NORMS):
                sequence[index] = fuse_conv_bn_eval(conv, norm)
                del sequence[index + 1]


def _rewrite_all(deployed: SSDLite, choose: ChooseVariant) -> None:
    for layer in deployed.head.classification:
        _absorb_permutation(cast(nn.Sequential, layer))
    backbone = deployed.backbone
    tap = backbone.blocks[backbone.tap_block] if isinstance(backbone, IGCV3) else None
    for block in list(grouped_blocks(deployed)):
        # grouped 1x1 convolutions that read the tap need its order
        fixed = block is tap and _first_pointwise(_of_tap(deployed)[0]).groups > 1
        order = _rewrite(block, NATURAL if fixed else choose(block))
        if block is tap and not fixed:
            _reorder_tap(deployed, order)


def _absorb_permutation(layer: nn.Sequential) -> None:
    """Writes the last 1x1 of a split prediction layer densely, without the permutation before."""
    *others, permutation, predict = layer
    if not isinstance(permutation, ChannelPermutation):
        return
    assert isinstance(predict, nn.Conv2d)
    columns = dense_elements(predict)[:, np.argsort(permutation.index)]
    weight = gather_weight(predict.weight, torch.from_numpy(columns).to(predict.weight.device))
    dense = nn.Conv2d(predict.in_channels, predict.out_channels, 1, device="meta")
    assert predict.bias is not None
    dense.bias = predict.bias
    dense.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    del layer[len(others) :]
    layer.append(dense)


def _first_pointwise(layer: nn.Module) -> nn.Conv2d:
    return cast(nn.Conv2d, cast(nn.Sequential, layer)[1])


def _rewrite(block: Block, variant: BlockVariant) -> Tensor:
    """Rewrites a block with folded norms in place.

    Returns:
        [E] int64: which channel of the original expansion is at each position now.
    """
    layout = block_layout(block, variant)
    for name, own in zip(block.PARTS, layout, strict=True):
        sequence = cast(nn.Sequential, block.get_submodule(name))
        conv = cast(nn.Conv2d, sequence[0])
        if conv.kernel_size == (1, 1):
            sequence[0] = _pointwise(conv, own)
        else:
            _set_weight(conv, gather_weight(conv.weight, own.elements), own.rows)
    if layout.expand.repeats > 1:
        expand = cast(nn.Sequential, block.get_submodule(block.PARTS[0]))
        repeated = nn.Sequential(ChannelRepeat(layout.expand.repeats), *expand)
        setattr(block, block.PARTS[0], repeated)
    block.p1, block.p2 = nn.Identity(), nn.Identity()
    return layout.expand.rows


def _pointwise(conv: nn.Conv2d, layout: WeightLayout) -> nn.Conv2d:
    pointwise = nn.Conv2d(
        conv.in_channels * layout.repeats,
        conv.out_channels,
        1,
        groups=layout.groups,
        device="meta",
    )
    assert conv.bias is not None
    pointwise.bias = conv.bias
    _set_weight(pointwise, gather_weight(conv.weight, layout.elements), layout.rows)
    return pointwise


def _set_weight(conv: nn.Conv2d, weight: Tensor, rows: Tensor) -> None:
    assert conv.bias is not None
    conv.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
    conv.bias = nn.Parameter(conv.bias[rows], requires_grad=False)


def _of_tap(detector: SSDLite) -> list[nn.Sequential]:
    """The prediction layers of the backbone's first tap."""
    level = 0 if detector.stride8 is None else 1
    layers = (detector.head.classification[level], detector.head.regression[level])
    return [cast(nn.Sequential, layer) for layer in layers]


def _reorder_tap(detector: SSDLite, order: Tensor) -> None:
    """Reorders the input channels of all layers that read the tap."""
    if detector.stride8 is not None:
        top = cast(nn.Conv2d, detector.stride8.top[0])
        top.weight = nn.Parameter(top.weight[:, order], requires_grad=False)
    for layer in _of_tap(detector):
        depthwise = cast(nn.Conv2d, cast(nn.Sequential, layer[0])[0])
        predict = _first_pointwise(layer)
        _set_weight(depthwise, depthwise.weight[order], order)
        predict.weight = nn.Parameter(predict.weight[:, order], requires_grad=False)
