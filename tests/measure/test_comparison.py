"""Detectors side by side."""

import pytest
import torch

from igcv3det.config import BackboneConfig, DetectorConfig
from igcv3det.detector import build_detector
from igcv3det.measure.comparison import compare
from igcv3det.measure.complexity import count_parameters


def detector(name, size):
    backbone = BackboneConfig(name=name, width=0.25, depth=0.25 if name == "igcv3" else 1.0)
    return build_detector(DetectorConfig(num_classes=2, image_size=size, backbone=backbone)).eval()


def test_rows():
    detectors = {"one": detector("igcv3", 64), "two": detector("mobilenetv2", 96)}
    threads = torch.get_num_threads()
    one, two = compare(detectors, {"two": 0.25}, rounds=3, threads=1)
    assert torch.get_num_threads() == threads
    assert (one["name"], one["latency_ratio"], one["AP"]) == ("one", 1.0, None)
    assert (two["name"], two["AP"]) == ("two", 0.25)
    assert two["latency_ratio"] == pytest.approx(two["latency_ms"] / one["latency_ms"])
    assert one["parameters"] == count_parameters(detectors["one"])
    assert one["multiply_adds"] > 0


def test_wrong_arguments():
    with pytest.raises(ValueError, match="nothing to time"):
        compare({})
    with pytest.raises(ValueError, match="threads must be >= 1"):
        compare({"one": detector("igcv3", 64)}, threads=0)


def test_an_exported_file_beside_the_network_that_it_was_made_from(tmp_path):
    for package in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="needs the extra igcv3det[export]")
    from exported_files import CATEGORIES, CONFIG, write_stub

    from igcv3det.runtime import load_exported

    exported = load_exported(write_stub(tmp_path / "stub.onnx"), threads=1)
    plain = build_detector(CONFIG, CATEGORIES).eval()
    own, file = compare({"own": plain, "file": exported}, rounds=2, threads=1)
    assert file["parameters"] == own["parameters"]
    assert file["multiply_adds"] == own["multiply_adds"]
    assert file["latency_ms"] < own["latency_ms"]
