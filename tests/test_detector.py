"""The detector as a whole: shapes, counts, order of anchors, and what it refuses."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from igcv3det.config import AnchorConfig, BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import SSDLite, at_input_size, build_backbone, build_detector
from igcv3det.models.layers import SameConv2d
from igcv3det.structures import Categories

SMALL = BackboneConfig(width=0.25, depth=0.5)
TENSORFLOW = AnchorConfig(layout="tensorflow", reduce_lowest=True)


def _small(**changes):
    return DetectorConfig(num_classes=3, image_size=64, backbone=SMALL, **changes)


def test_default_detector_is_igcv3_d_at_320():
    detector = build_detector().eval()
    assert detector.feature_sizes == [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]
    assert detector.anchors.shape == (3234, 4)
    with torch.no_grad():
        outputs = detector(torch.zeros(1, 3, 320, 320))
    assert outputs.logits.shape == (1, 3234, 81)
    assert outputs.offsets.shape == (1, 3234, 4)


def test_tensorflow_layout_has_the_counts_of_the_original():
    # MobileNetV2, dense extra layers, 3/6 anchors: 4.337 M, 789 M at 320
    config = DetectorConfig(
        anchors=TENSORFLOW, backbone=BackboneConfig(name="mobilenetv2"), padding="same"
    )
    detector = build_detector(config).eval()
    assert sum(p.numel() for p in detector.parameters()) == pytest.approx(4.337e6, abs=500)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        detector(torch.zeros(1, 3, 320, 320))
    assert counter.get_total_flops() / 2 == pytest.approx(789e6, abs=0.5e6)


@pytest.mark.parametrize(
    ("size", "anchors", "expected"),
    [(320, AnchorConfig(), 3234), (300, TENSORFLOW, 1917), (320, TENSORFLOW, 2034)],
)
@pytest.mark.parametrize("padding", ["symmetric", "same"])
def test_anchors_are_as_many_as_predictions(size, anchors, expected, padding):
    config = DetectorConfig(
        num_classes=2, image_size=size, anchors=anchors, padding=padding, backbone=SMALL
    )
    detector = build_detector(config).eval()
    with torch.no_grad():
        outputs = detector(torch.zeros(1, 3, size, size))
    assert outputs.logits.shape[1] == outputs.offsets.shape[1] == len(detector.anchors) == expected


@pytest.mark.parametrize("size", [65, 97, 321])
def test_odd_sizes_fit_too(size):
    config = DetectorConfig(num_classes=2, image_size=size, backbone=SMALL)
    detector = build_detector(config).eval()
    with torch.no_grad():
        assert detector(torch.zeros(1, 3, size, size)).logits.shape[1] == len(detector.anchors)


def test_an_anchor_stands_where_its_cell_looks():
    # the cell whose input is disturbed must be the one whose anchors change most
    torch.manual_seed(0)
    config = DetectorConfig(num_classes=2, image_size=128, backbone=SMALL)
    detector = build_detector(config).eval()
    images = torch.zeros(2, 3, 128, 128)
    images[1, :, 80:96, 16:32] = 1  # 16 px cells: row 5, column 1
    with torch.no_grad():
        logits = detector(images).logits
    changed = (logits[1] - logits[0]).abs().sum(-1)[: 8 * 8 * 6].argmax()
    centre = detector.anchors[changed].reshape(2, 2).mean(0)
    assert_close(centre, torch.tensor([24.0, 88.0]), atol=16.1, rtol=0)


def test_a_batch_equals_its_single_images():
    detector = build_detector(_small()).eval()
    images = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        together = detector(images)
        alone = [detector(image[None]) for image in images]
    assert_close(together.logits, torch.cat([o.logits for o in alone]), atol=1e-5, rtol=1e-4)
    assert_close(together.offsets, torch.cat([o.offsets for o in alone]), atol=1e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient():
    detector = build_detector(_small())
    outputs = detector(torch.randn(4, 3, 64, 64))
    (outputs.logits.square().sum() + outputs.offsets.square().sum()).backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_same_padding_reaches_backbone_and_extra_layers():
    detector = build_detector(_small(padding="same"))
    strided = [m for m in detector.modules() if isinstance(m, SameConv2d)]
    assert len(strided) == 5 + 4  # stem, four stages; four extra layers
    assert detector.state_dict().keys() == build_detector(_small()).state_dict().keys()


def test_other_image_sizes_are_refused():
    with pytest.raises(ValueError, match=r"takes 64x64 images, got \(64, 96\)"):
        build_detector(_small())(torch.zeros(1, 3, 64, 96))


def test_categories_must_be_as_many_as_classes():
    with pytest.raises(ValueError, match="num_classes is 3, but there are 2 categories: cat, dog"):
        SSDLite(_small(), Categories((1, 2), ("cat", "dog")))


def test_mobilenetv2_refuses_the_fields_of_igcv3():
    with pytest.raises(ValueError, match="takes width, dropout"):
        build_backbone(BackboneConfig(name="mobilenetv2", groups=(4, 4)))


@pytest.mark.parametrize("name", ["igcv3", "mobilenetv2"])
def test_zero_init_makes_blocks_with_a_shortcut_the_identity(name):
    backbone = build_backbone(BackboneConfig(name=name, zero_init=True)).eval()
    blocks = [b for b in backbone.modules() if getattr(b, "shortcut", False)]
    blocks += [b for b in backbone.modules() if getattr(b, "use_res_connect", False)]
    assert len(blocks) == (25 if name == "igcv3" else 10)
    for block in blocks:
        channels = next(m for m in block.modules() if isinstance(m, torch.nn.Conv2d)).in_channels
        x = torch.randn(1, channels, 4, 4)
        assert_close(block(x), x)


def test_sigmoid_head_and_short_extras():
    config = _small(head=HeadConfig(extra_channels=(64,), activation="sigmoid"))
    detector = build_detector(config).eval()
    assert detector.feature_sizes == [(4, 4), (2, 2), (1, 1)]
    with torch.no_grad():
        outputs = detector(torch.zeros(1, 3, 64, 64))
    assert outputs.logits.shape == (1, 21 * 6, 4)


def test_a_detector_at_another_size_has_the_same_weights_and_anchors_of_as_many_pixels():
    detector = build_detector(_small(padding="same")).eval()
    other = at_input_size(detector, 96)
    assert not other.training
    assert other.config.anchors.trained_size == 64
    for name, value in detector.state_dict().items():
        assert torch.equal(other.state_dict()[name], value)
    sides = [(x.anchors[:, 2:] - x.anchors[:, :2]).amin(0) for x in (detector, other)]
    assert_close(*sides)
    assert torch.equal(at_input_size(other, 64).anchors, detector.anchors)
    assert at_input_size(other, 64).config == detector.config


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_detector_at_another_size_keeps_the_type_of_its_weights(dtype):
    detector = build_detector(_small()).to(dtype)
    other = at_input_size(detector, 96)
    first, second = next(detector.parameters()), next(other.parameters())
    assert second.dtype == dtype
    assert torch.equal(first, second)
    assert second.data_ptr() != first.data_ptr()
    assert second.requires_grad
    assert other.anchors.dtype == torch.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": BackboneConfig(width=0.02)}, r"backbone\.width 0\.02 leaves none of 16"),
        ({"backbone": BackboneConfig(groups=(64, 64))}, "G1 \\* G2 of at most 64"),
        ({"backbone": BackboneConfig(super_channels=2)}, "super_channels=None or a multiple of 4"),
        (
            {"head": HeadConfig((16,), extra_hidden=(13,), extra_groups=((2, 1),))},
            r"head\.extra_groups\[0\]: .*G1 must divide the expanded channels, here 13",
        ),
    ],
)
def test_networks_that_cannot_be_built_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        build_detector(DetectorConfig(num_classes=2, image_size=64, **changes))


def test_an_extra_layer_of_one_channel():
    detector = build_detector(_small(head=HeadConfig(extra_channels=(1,)))).eval()
    with torch.no_grad():
        outputs = detector(torch.zeros(1, 3, 64, 64))
    assert all(torch.isfinite(output).all() for output in outputs)
