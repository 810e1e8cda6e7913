"""Heads of segmenters against torchvision's; dilated backbones against those at stride 32."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.segmentation.deeplabv3 import ASPP
from torchvision.models.segmentation.lraspp import LRASPPHead as TorchvisionHead

from igcv3det.config import BackboneConfig
from igcv3det.detector import build_backbone
from igcv3det.models.deeplab import DeepLabHead
from igcv3det.models.dilation import OUTPUT_STRIDE_16, dilate_last_stages
from igcv3det.models.explicit_blocks import explicit_config
from igcv3det.models.lraspp import LRASPPHead

SMALL = {"width": 0.25, "zero_init": False}
BACKBONES = {
    "igcv3": BackboneConfig(**SMALL, repeats=(1, 2, 1, 1, 1, 3, 1)),
    "igcv3-w": BackboneConfig(**SMALL, variant="W", repeats=(1, 1, 1, 1, 1, 2, 1)),
    "mobilenetv2": BackboneConfig(name="mobilenetv2", **SMALL),
}


def test_the_head_is_torchvisions():
    """Names, counts and outputs; 128 channels and 21 classes as in torchvision's lraspp."""
    oracle = TorchvisionHead(40, 960, 21, 128).eval()
    head = LRASPPHead(40, 960, 21).eval()
    head.load_state_dict(oracle.state_dict())
    assert sum(p.numel() for p in head.parameters()) == 2 * 960 * 128 + 2 * 128 + (41 + 129) * 21
    low, high = torch.randn(2, 40, 13, 18), torch.randn(2, 960, 7, 9)
    assert_close(head(low, high), oracle({"low": low, "high": high}), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("output_stride", [16, 32])
def test_deeplab_is_torchvisions_with_weights_of_low_rank(output_stride):
    """A depthwise and a 1x1 convolution are one dense 3x3 whose weight is their product."""
    torch.manual_seed(0)
    head = DeepLabHead(24, 7, 8, output_stride).eval()
    rates = [rate * 16 // output_stride for rate in (6, 12, 18)]
    oracle = ASPP(24, rates, 8).eval()
    branches = [*head.branches, head.pooled]
    for own, other in zip(branches, oracle.convs, strict=True):
        conv, norm = [m for m in other.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]
        *depthwise, pointwise, own_norm, _ = own
        weight = pointwise.weight
        conv.weight = nn.Parameter(
            weight * depthwise[0].weight[None, :, 0] if depthwise else weight
        )
        norm.load_state_dict(own_norm.state_dict())
    for index in (0, 1):
        oracle.project[index].load_state_dict(head.project[index].state_dict())
    high = torch.randn(2, 24, 9, 11)
    with torch.no_grad():
        assert_close(head(high), head.classifier(oracle(high)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize(("padding", "first"), [("symmetric", 0), ("same", 1)])
def test_every_second_cell_is_that_of_stride_32(name, padding, first):
    """Of TensorFlow's padding, whose strided kernels begin at the cell, the odd ones."""
    config = BACKBONES[name]
    coarse = build_backbone(config, padding=padding).eval()
    dilated = build_backbone(config, strides=OUTPUT_STRIDE_16, padding=padding)
    dilate_last_stages(dilated)
    dilated.load_state_dict(coarse.state_dict())
    images = torch.randn(1, 3, 128, 192)
    with torch.no_grad():
        expected = coarse.forward_features(images)[-1]
        found = dilated.eval().forward_features(images)[-1]
    assert found.shape[2:] == (8, 12)
    assert_close(found[:, :, first::2, first::2], expected, rtol=1e-4, atol=1e-5)


def test_a_backbone_of_listed_blocks_is_dilated_alike():
    backbone = build_backbone(BACKBONES["mobilenetv2"], strides=OUTPUT_STRIDE_16)
    listed = build_backbone(
        explicit_config(backbone, BACKBONES["mobilenetv2"]), strides=OUTPUT_STRIDE_16
    )
    counts = []
    for own in (backbone, listed):
        dilate_last_stages(own)
        counts.append(sum(getattr(m, "dilation", None) == (2, 2) for m in own.modules()))
    assert counts == [3, 3]  # two of stage 6, one of stage 7
