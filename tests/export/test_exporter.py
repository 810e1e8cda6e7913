"""Whole detectors through the exporter, on both runtimes, against PyTorch."""

import json

import pytest
import torch

for _package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

import onnx  # noqa: E402
from export.networks import (  # noqa: E402
    CATEGORIES,
    CONFIGS,
    IGCV3,
    TENSORFLOW,
    lively_detector,
)

from igcv3det.checkpoint import DESCRIPTION  # noqa: E402
from igcv3det.export import export_detector  # noqa: E402
from igcv3det.export.network import description_of  # noqa: E402
from igcv3det.measure.parity import compare_candidates, compare_detections  # noqa: E402
from igcv3det.predictor import Predictor  # noqa: E402
from igcv3det.runtime import ExportSpec, load_exported  # noqa: E402


def assert_agrees(detector, path, images, score, box_px):
    exported = load_exported(path)
    found = compare_detections(detector, exported, images)
    assert found["confident"] >= 10
    # where numbers differ at all, an overlap may cross the threshold of NMS
    missing = found["confident"] - found["matched"]
    assert max(missing, found["extra"]) <= (0 if score < 1e-3 else 0.05 * found["confident"])
    assert found["score"]["largest"] < score
    assert found["box_px"]["largest"] < box_px
    if not exported.spec.nms:
        candidates = compare_candidates(detector, exported, images)
        assert candidates["score"]["largest"] < score
        assert candidates["box_px"]["largest"] < box_px


def test_onnx_with_tensorflows_padding_and_resize(exported_file, images):
    detector, path = exported_file("onnx", "tensorflow")
    assert_agrees(detector, path, images, 1e-4, 1e-2)


def test_batches(exported_file):
    detector, path = exported_file("onnx", "tensorflow")
    images = torch.randn(3, 3, 75, 75)
    exported = load_exported(path)
    boxes, scores = exported(images)
    assert boxes.shape == (3, len(detector.anchors), 4)
    with torch.no_grad():
        ours = detector(images).logits.sigmoid()[..., 1:]
    # the bound of the other tests here: libraries add float32 in different orders
    torch.testing.assert_close(scores, ours, atol=1e-4, rtol=0)
    torch.testing.assert_close(exported(images[1:2])[1], ours[1:2], atol=1e-4, rtol=0)


def test_contents_of_an_onnx_file(exported_file):
    detector, path = exported_file("onnx", "tensorflow")
    model = onnx.load(path)
    properties = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(properties[DESCRIPTION]) == json.loads(
        json.dumps(description_of(detector, ExportSpec()))
    )
    assert [(own.domain, own.version) for own in model.opset_import] == [("", 18)]
    # no source lines, no folders of the machine that exported
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert b"site-packages" not in path.read_bytes()
    assert not {"BatchNormalization", "Pad"} & {node.op_type for node in model.graph.node}
    exported = load_exported(path)
    assert (exported.config, exported.categories) == (TENSORFLOW, CATEGORIES)


def test_openvino_with_everything_inside(exported_file, images):
    spec = ExportSpec(preprocessing=True, nms=True)
    detector, path = exported_file("openvino", "igcv3", spec)
    # OpenCV's resizing differs by a grey level in some pixels
    assert_agrees(detector, path, images, 0.1, 10)
    exported = load_exported(path)
    assert (exported.config, exported.categories, exported.spec) == (IGCV3, CATEGORIES, spec)


ALL = [
    pytest.param(
        name, network, ExportSpec(precision, *inside), id=f"{network}-{name}-{precision}-{kind}"
    )
    for network in CONFIGS
    for name in ("onnx", "openvino")
    for precision in ("fp32", "fp16")
    for kind, inside in {
        "candidates": (False, False),
        "image": (True, False),
        "nms": (False, True),
        "all": (True, True),
    }.items()
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "network", "spec"), ALL)
def test_every_kind_of_file(exported_file, images, name, network, spec):
    detector, path = exported_file(name, network, spec)
    # offsets of random weights are large, and boxes grow by their exponential
    score, box_px = (0.05, 10) if spec.precision == "fp16" else (1e-4, 0.01)
    if spec.preprocessing and network == "igcv3":
        score, box_px = 0.1, 10
    assert_agrees(detector, path, images, score, box_px)


@pytest.mark.slow
def test_half_precision_halves_the_file(exported_file):
    for name, weights in (("onnx", ".onnx"), ("openvino", ".bin")):
        _, whole = exported_file(name, "igcv3")
        _, half = exported_file(name, "igcv3", ExportSpec("fp16"))
        sizes = [path.with_suffix(weights).stat().st_size for path in (half, whole)]
        assert sizes[0] < 0.62 * sizes[1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_int8(exported_file, images, name):
    if name == "openvino":
        pytest.importorskip("nncf", reason="needs the extra igcv3det[export]")
    detector, path = exported_file(name, "igcv3", ExportSpec("int8"))
    # the loss of a trained network is measured in test_real_model.py
    report = compare_candidates(detector, load_exported(path), images)
    assert 1e-4 < report["score"]["mean"] < 0.03
    assert report["box_px"]["mean"] < 0.5
    content = path.read_bytes()
    assert b"QuantizeLinear" in content or b"FakeQuantize" in content


@pytest.mark.slow
def test_int8_weights_of_all_convolutions_are_stored_in_8_bits(exported_file):
    """Those of grouped ones were once quantised anew for every image."""
    pytest.importorskip("nncf", reason="needs the extra igcv3det[export]")
    openvino = pytest.importorskip("openvino")
    _, path = exported_file("openvino", "igcv3", ExportSpec("int8"))
    kinds = set()
    for node in openvino.Core().read_model(path).get_ops():
        if node.get_type_name() in ("Convolution", "GroupConvolution"):
            weight = node.input_value(1).get_node()
            while weight.get_type_name() != "Constant":
                assert weight.get_type_name() in ("Convert", "Multiply", "Subtract", "Reshape")
                weight = weight.input_value(0).get_node()
            kinds.add((node.get_type_name(), weight.get_output_element_type(0).get_type_name()))
    assert kinds == {("Convolution", "i8"), ("GroupConvolution", "i8")}


def test_the_detector_is_left_unchanged(exported_file):
    detector, _ = exported_file("onnx", "tensorflow")
    fresh = lively_detector(TENSORFLOW)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, detector.state_dict()[name]), name


def test_wrong_calls(tmp_path):
    detector = lively_detector(IGCV3)
    with pytest.raises(ValueError, match=r"a.pb: an exported detector ends in .onnx, .xml"):
        export_detector(detector, tmp_path / "a.pb")
    with pytest.raises(ValueError, match=r"a.onnx: int8 and images to calibrate on go together"):
        export_detector(detector, tmp_path / "a.onnx", ExportSpec("int8"))


def test_weights_of_something_else_are_not_overwritten(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"other weights")
    with pytest.raises(FileExistsError, match=r"a.bin: exists without a.xml"):
        export_detector(lively_detector(IGCV3), tmp_path / "a.xml")
    assert (tmp_path / "a.bin").read_bytes() == b"other weights"


def test_an_exporter_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"a.onnx: needs onnxscript.*igcv3det\[export\]"):
        export_detector(lively_detector(IGCV3), tmp_path / "a.onnx")


def test_the_predictor_takes_a_file(exported_file, images):
    detector, path = exported_file("onnx", "tensorflow")
    ours, theirs = Predictor(detector)(images[0]), Predictor.load(path)(images[0])
    assert ours.names == theirs.names
    torch.testing.assert_close(ours.boxes, theirs.boxes, atol=1e-3, rtol=0)
