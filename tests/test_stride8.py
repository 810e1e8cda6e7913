"""A further map of stride 8: its anchors, weights, faster forms and files."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from igcv3det.checkpoint import load_detector, save_detector
from igcv3det.config import AnchorConfig, BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.description import contradictions, describe
from igcv3det.detection.anchors import cell_shapes
from igcv3det.detector import build_detector
from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.fastpath.deploy import deploy
from igcv3det.io.images import write_image
from igcv3det.structures import Categories
from igcv3det.tasks.detect.fine_tuning import load_for_fine_tuning

SIZE = 96
NARROW = BackboneConfig(width=0.25, depth=0.5)
BACKBONES = {
    "igcv3": NARROW,
    "mobilenetv2": BackboneConfig(name="mobilenetv2", width=0.25),
    "dense": dataclasses.replace(NARROW, groups=(1, 1)),
}


def config(backbone="igcv3", stride8=0.1, classes=2, **head):
    return DetectorConfig(
        num_classes=classes,
        image_size=SIZE,
        backbone=BACKBONES[backbone],
        head=HeadConfig(extra_channels=(16, 16), **head),
        anchors=AnchorConfig(stride8_scale=stride8),
    )


def built(*args, seed=0, **kwargs):
    """A detector whose norms have statistics, so that folding them changes weights."""
    torch.manual_seed(seed)
    detector = build_detector(config(*args, **kwargs))
    for name, value in detector.named_buffers():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.2)
    return detector.eval()


def outputs(detector, seed=1):
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return detector(images)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_its_cells_come_first_and_the_other_maps_stay(backbone):
    plain, with_map = built(backbone, None), built(backbone)
    assert with_map.feature_sizes == [(12, 12), *plain.feature_sizes]
    new = 6 * 12 * 12
    assert len(with_map.anchors) == new + len(plain.anchors)
    assert torch.equal(with_map.anchors[new:], plain.anchors)
    # the first square of the first cell: side 0.1 * 96 around (4, 4)
    assert_close(with_map.anchors[0], torch.tensor([4 - 4.8, 4 - 4.8, 4 + 4.8, 4 + 4.8]))
    weights = plain.state_dict()
    shared = with_map.state_dict()
    for name, value in weights.items():
        first, dot, rest = name.partition("head.")
        if dot and not first:
            kind, level, end = rest.split(".", 2)
            name = f"head.{kind}.{int(level) + 1}.{end}"
        shared[name] = value
    with_map.load_state_dict(shared)
    found, expected = outputs(with_map), outputs(plain)
    assert_close(found.logits[:, new:], expected.logits, rtol=0, atol=0)
    assert_close(found.offsets[:, new:], expected.offsets, rtol=0, atol=0)


def test_without_it_names_anchors_and_description_are_as_before():
    detector = built(stride8=None)
    assert not any("stride8" in name for name in detector.state_dict())
    described = describe(detector.config, detector.categories)["detector"]
    assert "stride8_scale" not in described["anchors"]
    assert "stride8_channels" not in described["head"]


@pytest.mark.parametrize("size", [64, 100, 300])
def test_any_image_size(size):
    detector = build_detector(dataclasses.replace(config(), image_size=size)).eval()
    with torch.no_grad():
        found = detector(torch.zeros(1, 3, size, size))
    assert found.logits.shape[1] == len(detector.anchors)


def test_shapes_of_either_number():
    six = tuple(tuple(level) for level in cell_shapes(AnchorConfig(), 4))
    fitted = AnchorConfig(stride8_scale=0.1, shapes=six)
    assert len(cell_shapes(fitted, 5)) == 5
    assert cell_shapes(fitted, 5)[1:] == [list(level) for level in six]
    whole = AnchorConfig(stride8_scale=0.1, shapes=(((0.05, 0.06),), *six))
    assert cell_shapes(whole, 5)[0] == [(0.05, 0.06)]
    with pytest.raises(ValueError, match="has 5 lists, but there are 7 maps"):
        cell_shapes(whole, 7)


@pytest.mark.parametrize("scale", [0.0, 0.3, -1.0])
def test_scales_out_of_range(scale):
    with pytest.raises(ValueError, match=r"stride8_scale must be in \(0, min_scale\]"):
        AnchorConfig(stride8_scale=scale)


@pytest.mark.parametrize("variant", ["torch", "onnxruntime", "openvino", "dense", "permuted"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_deployed_it_computes_the_same(backbone, variant):
    detector = built(backbone)
    assert_close(outputs(deploy(detector, variant)).logits, outputs(detector).logits)
    assert_close(outputs(deploy(detector, variant)).offsets, outputs(detector).offsets)


@pytest.mark.parametrize("impl", ["fast", "folded"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_faster_training_has_the_same_gradients(impl, frozen):
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    gradients = []
    for kind in ("reference", impl):
        detector = built().double().train(not frozen)
        set_conv_impl(detector, kind)
        found = detector(images.double().to(memory_format=torch.channels_last))
        (found.logits.square().mean() + found.offsets.square().mean()).backward()
        gradients.append({name: p.grad for name, p in detector.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, expected in gradients[0].items():
        assert expected is not None, name
        assert_close(gradients[1][name], expected, msg=name)


def test_a_checkpoint_keeps_it(tmp_path):
    detector = built()
    save_detector(detector, tmp_path / "a.safetensors")
    loaded = load_detector(tmp_path / "a.safetensors")
    assert loaded.config == detector.config
    assert_close(outputs(loaded).logits, outputs(detector).logits, rtol=0, atol=0)
    assert contradictions(config(stride8=None), loaded.config) == [
        "anchors.stride8_scale 0.1, not None"
    ]


def test_weights_without_it_start_one_with_it_and_back(tmp_path):
    plain = built(stride8=None)
    save_detector(plain, tmp_path / "plain.safetensors")
    started = built(seed=5)
    new = {name: value.clone() for name, value in started.state_dict().items()}
    load_for_fine_tuning(started, tmp_path / "plain.safetensors")
    cells = 6 * 12 * 12
    assert_close(outputs(started).logits[:, cells:], outputs(plain).logits, rtol=0, atol=0)
    for name, value in started.state_dict().items():
        if name.startswith(("stride8.", "head.classification.0.", "head.regression.0.")):
            assert torch.equal(value, new[name]), name
    save_detector(started, tmp_path / "with.safetensors")
    back = built(stride8=None, seed=7)
    load_for_fine_tuning(back, tmp_path / "with.safetensors")
    assert_close(outputs(back).logits, outputs(plain).logits, rtol=0, atol=0)


@pytest.mark.parametrize("source_has_it", [False, True])
def test_classes_of_the_same_name_keep_their_rows_on_all_maps(tmp_path, source_has_it):
    torch.manual_seed(0)
    cats = Categories((1, 2), ("cat", "dog"))
    source = build_detector(config(stride8=0.1 if source_has_it else None), cats).eval()
    save_detector(source, tmp_path / "a.safetensors")
    pets = Categories((1, 2, 3), ("bird", "cat", "fish"))
    target = build_detector(config(classes=3), pets).eval()
    load_for_fine_tuning(target, tmp_path / "a.safetensors")
    first = 0 if source_has_it else 6 * 12 * 12
    found, expected = outputs(target).logits[:, first:], outputs(source).logits
    assert_close(found[..., 0], expected[..., 0])  # background
    assert_close(found[..., 2], expected[..., 1])  # cat


def test_it_goes_without_split_class_layers():
    with pytest.raises(ValueError, match="has no map of stride 8"):
        config(class_ranks=(4, 4, 4, 4))


def test_commands_that_do_not_take_it_say_so(tmp_path, capsys):
    from igcv3det.cli.compress import main
    from igcv3det.tasks.distill.module import DistillationModule

    save_detector(built(), tmp_path / "a.safetensors")
    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    words = ["--checkpoint", str(tmp_path / "a.safetensors"), "--images", str(tmp_path)]
    assert main([*words, "--output", str(tmp_path / "out"), "--parameters", "0.5"]) == 1
    assert "compress takes no detector with a map of stride 8" in capsys.readouterr().err
    with pytest.raises(ValueError, match="map of stride 8 are not distilled"):
        DistillationModule(str(tmp_path / "a.safetensors"), config())


@pytest.mark.parametrize("shapes", [False, True])
def test_train_data_fits_its_anchors_too(tmp_path, shapes):
    from layouts import write_layout

    from igcv3det.tasks.detect.plan import Plan

    source = config(stride8=None, classes=3)
    if shapes:
        listed = tuple(tuple(level) for level in cell_shapes(source.anchors, 4))
        anchors = dataclasses.replace(source.anchors, shapes=listed)
        source = dataclasses.replace(source, anchors=anchors)
    save_detector(build_detector(source), tmp_path / "a.safetensors")
    given = {"model.detector.anchors.stride8_scale": 0.1}
    plan = Plan(write_layout(tmp_path, "voc").folder, given, str(tmp_path / "a.safetensors"))
    (choice,) = [choice for choice in plan.choices() if choice.name == "anchors"]
    assert "of the boxes" in choice.reason or "are covered" in choice.reason
    for value in choice.options.values():
        assert len(value) == 5


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["onnx", "xml"])
@pytest.mark.parametrize("backbone", ["igcv3", "mobilenetv2"])
def test_exported_it_gives_the_same(tmp_path, ending, backbone):
    pytest.importorskip("onnxscript", reason="needs the extra igcv3det[export]")
    pytest.importorskip({"onnx": "onnxruntime", "xml": "openvino"}[ending])
    from export.networks import lively_detector, write_images

    from igcv3det.export import export_detector, list_images
    from igcv3det.measure.parity import compare_detections
    from igcv3det.runtime import load_exported

    detector = lively_detector(config(backbone, classes=3))
    export_detector(detector, tmp_path / f"a.{ending}")
    exported = load_exported(tmp_path / f"a.{ending}")
    assert exported.config == detector.config
    images = list_images(write_images(tmp_path / "images"))
    found = compare_detections(detector, exported, images)
    assert found["confident"] >= 10
    assert found["matched"] == found["confident"]
    assert found["extra"] == 0
    assert found["score"]["largest"] < 1e-4
