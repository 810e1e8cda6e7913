"""Whole detectors through the formats with fixed shapes, each in its runtime, against PyTorch."""

import subprocess

import pytest
import torch
from export.networks import CATEGORIES, IGCV3, TENSORFLOW, lively_detector, write_images

from igcv3det.export import export_detector, list_images
from igcv3det.export.ncnn_files import _refuse_unknown
from igcv3det.export_formats import FORMATS, format_of
from igcv3det.measure.parity import compare_candidates, compare_detections
from igcv3det.predictor import Predictor
from igcv3det.runtime import ExportSpec, load_exported

PACKAGES = {"ncnn": ("pnnx", "ncnn")}
CONFIGS = {"tensorflow": TENSORFLOW, "igcv3": IGCV3}


def require(name):
    for package in PACKAGES[name]:
        pytest.importorskip(package, reason=f"needs the extra igcv3det[{FORMATS[name].extra}]")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return list_images(write_images(tmp_path_factory.mktemp("images")))


@pytest.fixture(scope="module")
def exported_file(tmp_path_factory):
    """Exports once for all tests: (detector, path) by format, network and precision."""
    made = {}

    def make(name, network, precision="fp32"):
        require(name)
        key = name, network, precision
        if key not in made:
            detector = lively_detector(CONFIGS[network])
            path = tmp_path_factory.mktemp(name) / f"{network}{FORMATS[name].suffix}"
            export_detector(detector, path, ExportSpec(precision))
            made[key] = detector, path
        return made[key]

    return make


@pytest.mark.parametrize("network", CONFIGS)
@pytest.mark.parametrize("name", PACKAGES)
def test_fp32_agrees_with_pytorch(exported_file, images, name, network):
    detector, path = exported_file(name, network)
    exported = load_exported(path, threads=1)
    assert (exported.config, exported.categories) == (CONFIGS[network], CATEGORIES)
    assert exported.spec == ExportSpec(single_image=True)
    found = compare_detections(detector, exported, images)
    assert found["matched"] == found["confident"] >= 10
    assert found["extra"] == 0
    candidates = compare_candidates(detector, exported, images)
    assert candidates["score"]["largest"] < 1e-4
    assert candidates["box_px"]["largest"] < 1e-2


@pytest.mark.parametrize("name", PACKAGES)
def test_batches_run_image_by_image(exported_file, name):
    detector, path = exported_file(name, "tensorflow")
    images = torch.randn(3, 3, 75, 75, generator=torch.Generator().manual_seed(0))
    boxes, scores = load_exported(path)(images)
    assert boxes.shape == (3, len(detector.anchors), 4)
    with torch.no_grad():
        ours = detector(images).logits.sigmoid()[..., 1:]
    torch.testing.assert_close(scores, ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_predictor_takes_a_file(exported_file, images, name):
    detector, path = exported_file(name, "tensorflow")
    ours, theirs = Predictor(detector)(images[0]), Predictor.load(path)(images[0])
    assert ours.names == theirs.names
    torch.testing.assert_close(ours.boxes, theirs.boxes, atol=1e-2, rtol=0)


def test_fp16_halves_the_weights_of_ncnn(exported_file, images):
    _, whole = exported_file("ncnn", "igcv3")
    detector, half = exported_file("ncnn", "igcv3", "fp16")
    sizes = [path.with_suffix(".bin").stat().st_size for path in (half, whole)]
    assert sizes[0] < 0.6 * sizes[1]
    assert load_exported(half).spec.precision == "fp16"
    candidates = compare_candidates(detector, load_exported(half), images)
    assert 1e-5 < candidates["score"]["largest"] < 0.05


def test_ncnn_layers_are_known_and_named(exported_file):
    _, path = exported_file("ncnn", "tensorflow")
    lines = path.read_text().splitlines()
    assert lines[0] == "7767517"
    assert lines[2] == "Input images 0 1 images 0=75 1=75 2=3"
    number = int(lines[1].split()[0])
    assert lines[2 + number].startswith('# igcv3det {"format": 1')  # after the last layer
    with pytest.raises(ValueError, match=r"a.param: ncnn has no layer aten::sort \(sort_1\)"):
        _refuse_unknown([*lines[2:20], "aten::sort sort_1 1 1 3 4"], path.with_name("a.param"))


def test_a_converter_that_fails(tmp_path, monkeypatch):
    require("ncnn")
    failed = subprocess.CompletedProcess([], 1, "", "loading\nunsupported thing\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(ValueError, match=r"a.param: pnnx cannot convert it: unsupported thing"):
        export_detector(lively_detector(IGCV3), tmp_path / "a.param")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", PACKAGES)
def test_what_a_format_does_not_have(tmp_path, name):
    own = FORMATS[name]
    path = tmp_path / f"a{own.suffix}"
    for precision in {"fp16", "int8"} - set(own.precisions):
        with pytest.raises(
            ValueError, match=rf"a{own.suffix}: .* have precision fp32.*not {precision}"
        ):
            export_detector(lively_detector(IGCV3), path, ExportSpec(precision))
    for spec, step in (
        (ExportSpec(nms=True), "NMS"),
        (ExportSpec(preprocessing=True), "preprocessing"),
    ):
        message = rf"a{own.suffix}: .* files cannot include {step}; .onnx and .xml files can"
        with pytest.raises(ValueError, match=message):
            export_detector(lively_detector(IGCV3), path, spec)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(__import__("sys").modules, PACKAGES[name][0], None)
    own = FORMATS[name]
    message = rf"a{own.suffix}: needs .*{PACKAGES[name][0]}.* 'igcv3det\[{own.extra}\]'"
    with pytest.raises(ImportError, match=message):
        export_detector(lively_detector(IGCV3), tmp_path / f"a{own.suffix}")


def test_weights_of_something_else_are_not_overwritten(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"other weights")
    with pytest.raises(FileExistsError, match=r"a.bin: exists without a.param"):
        export_detector(lively_detector(IGCV3), tmp_path / "a.param")


def test_endings_and_names(tmp_path):
    assert format_of(tmp_path / "a.xml").name == "openvino"
    with pytest.raises(ValueError, match=r"a.bin: a file of format ncnn ends in .param"):
        format_of(tmp_path / "a.bin", "ncnn")
    with pytest.raises(ValueError, match=r"a.pb: an exported detector ends in .onnx, .*or \.\w+$"):
        format_of(tmp_path / "a.pb")
