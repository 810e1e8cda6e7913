"""Exported files of the converted ssdlite_mobilenet_v2_coco on COCO images.

Needs IGCV3DET_DATA, a folder with ``tf_ssdlite_mobilenet_v2_coco`` (the TensorFlow.js model) and
``coco_subset`` (COCO's layout). Calibrated on train2017, scored on val2017.
"""

import logging

import pytest

for _package in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

from igcv3det.export import CalibrationSet, export_detector, list_images  # noqa: E402
from igcv3det.measure.parity import (  # noqa: E402
    AP_LIMIT,
    compare_ap,
    compare_candidates,
    compare_detections,
)
from igcv3det.preprocess import Preprocess  # noqa: E402
from igcv3det.runtime import ExportSpec, load_exported  # noqa: E402
from research.convert.ssdlite import convert_graph  # noqa: E402
from research.convert.tfjs import read_graph_model  # noqa: E402

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def detector(real_data):
    return convert_graph(read_graph_model(real_data / "tf_ssdlite_mobilenet_v2_coco")).eval()


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_float32_is_the_same_on_photographs(real_data, detector, tmp_path, suffix):
    path = tmp_path / f"tf{suffix}"
    export_detector(detector, path)
    images = list_images(real_data / "coco_subset" / "val2017", 20)
    found = compare_detections(detector, load_exported(path), images)
    assert found["confident"] > 50
    assert (found["matched"], found["extra"]) == (found["confident"], 0)
    candidates = compare_candidates(detector, load_exported(path), images)
    assert candidates["score"]["largest"] < 1e-4
    assert candidates["box_px"]["largest"] < 0.01


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_int8_keeps_the_average_precision(real_data, detector, tmp_path, suffix):
    subset = real_data / "coco_subset"
    preprocess = Preprocess(detector.config.preprocess, detector.config.image_size)
    calibration = CalibrationSet(subset / "train2017", preprocess)
    path = tmp_path / f"tf{suffix}"
    export_detector(detector, path, ExportSpec("int8"), calibration)
    annotations = subset / "annotations" / "instances_val2017.json"
    ap = compare_ap(detector, load_exported(path), annotations, subset / "val2017")
    logger.info("int8 %s: %s", suffix, ap)
    assert ap["loss"] <= AP_LIMIT
