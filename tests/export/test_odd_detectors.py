"""Detectors that differ from the usual ones in every way, through each format, against PyTorch."""

import json

import pytest
import torch
from export.networks import ODD, lively_detector, require

from igcv3det.detection.box_coder import BoxCoder
from igcv3det.detection.postprocess import class_scores
from igcv3det.export import export_detector
from igcv3det.measure.parity import compare_detections
from igcv3det.runtime import ExportSpec, load_exported

# JAX, which litert-torch imports, warns of the programs that other exporters start
pytestmark = pytest.mark.filterwarnings("ignore:os.fork:RuntimeWarning")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("litert", "executorch")]
ANY_BATCH = [pytest.param(name, marks=pytest.mark.slow) for name in ("onnx", "openvino")]


def raw_outputs(detector, images):
    """Boxes in pixels of the input and scores, by PyTorch."""
    config = detector.config
    with torch.no_grad():
        logits, offsets = detector(images)
    boxes = BoxCoder(config.variances).decode(offsets, detector.anchors)
    return boxes.clamp(0, config.image_size), class_scores(logits, config.head.activation)


@pytest.mark.parametrize("network", ODD)
@pytest.mark.parametrize("name", ["ncnn", *SLOW, *ANY_BATCH])
def test_raw_outputs_are_those_of_pytorch(exported_file, name, network):
    detector, path = exported_file(name, network)
    size = detector.config.image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    exported = load_exported(path, threads=1)
    assert (exported.config, exported.categories) == (detector.config, detector.categories)
    boxes, scores = exported(images)
    expected_boxes, expected_scores = raw_outputs(detector, images)
    assert scores.shape[2] == detector.config.num_classes
    assert expected_scores.std() > 0.01  # nothing is saturated
    torch.testing.assert_close(scores, expected_scores, rtol=0, atol=1e-4)
    torch.testing.assert_close(boxes, expected_boxes, rtol=0, atol=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("network", ODD)
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_graphs_with_nms_find_the_same(exported_file, images, name, network):
    detector, path = exported_file(name, network, ExportSpec(nms=True, preprocessing=True))
    found = compare_detections(detector, load_exported(path, threads=1), images)
    assert found["confident"] > 10
    assert found["matched"] + found["extra"] > 0.9 * found["confident"]
    assert found["score"]["p95"] < 0.1  # a pixel of the resize differs by a grey level


@pytest.mark.slow
@pytest.mark.parametrize("network", ODD)
def test_core_ml_is_written(tmp_path, network):
    require("coreml")
    coremltools = pytest.importorskip("coremltools")
    detector = lively_detector(ODD[network])
    export_detector(detector, tmp_path / "a.mlpackage")
    model = coremltools.models.MLModel(str(tmp_path / "a.mlpackage"), skip_model_load=True)
    description = json.loads(model.user_defined_metadata["igcv3det"])
    assert description["detector"]["num_classes"] == detector.config.num_classes
