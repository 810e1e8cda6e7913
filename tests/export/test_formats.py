"""Whole detectors through the formats with fixed shapes, each in its runtime, against PyTorch."""

import json
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from export.networks import (
    CATEGORIES,
    CONFIGS,
    IGCV3,
    PACKAGES,
    lively_detector,
    require,
)

from igcv3det.export import export_detector
from igcv3det.export.coreml_files import _replace
from igcv3det.export.ncnn_files import _refuse_unknown
from igcv3det.export_formats import FORMATS, format_of
from igcv3det.measure.parity import compare_candidates, compare_detections
from igcv3det.predictor import Predictor
from igcv3det.runtime import ExportSpec, load_exported

FIXED = ("ncnn", "litert", "executorch", "coreml")  # shapes
RUNNABLE = [
    "ncnn",
    pytest.param("litert", marks=pytest.mark.slow),
    pytest.param("executorch", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("network", CONFIGS)
@pytest.mark.parametrize("name", RUNNABLE)
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


@pytest.mark.parametrize("name", RUNNABLE)
def test_batches_run_image_by_image(exported_file, name):
    detector, path = exported_file(name, "tensorflow")
    images = torch.randn(3, 3, 75, 75, generator=torch.Generator().manual_seed(0))
    boxes, scores = load_exported(path)(images)
    assert boxes.shape == (3, len(detector.anchors), 4)
    with torch.no_grad():
        ours = detector(images).logits.sigmoid()[..., 1:]
    torch.testing.assert_close(scores, ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", RUNNABLE)
def test_the_predictor_takes_a_file(exported_file, images, name):
    detector, path = exported_file(name, "tensorflow")
    ours, theirs = Predictor(detector)(images[0]), Predictor.load(path)(images[0])
    assert ours.names == theirs.names
    torch.testing.assert_close(ours.boxes, theirs.boxes, atol=1e-2, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["litert", "executorch"])
def test_int8(exported_file, images, name):
    _, whole = exported_file(name, "igcv3")
    detector, path = exported_file(name, "igcv3", ExportSpec("int8"))
    assert path.stat().st_size < 0.75 * whole.stat().st_size  # a tiny one is mostly anchors
    exported = load_exported(path)
    assert exported.spec.precision == "int8"
    # the loss of a trained network is measured in docs/export.md
    report = compare_candidates(detector, exported, images)
    assert 1e-4 < report["score"]["mean"] < 0.03
    assert report["box_px"]["mean"] < 0.5


@pytest.mark.parametrize("name", RUNNABLE)
def test_one_file_in_several_threads(exported_file, name):
    _, path = exported_file(name, "tensorflow")
    exported = load_exported(path, threads=1)
    images = torch.randn(8, 1, 3, 75, 75, generator=torch.Generator().manual_seed(0))
    expected = [exported(image)[1] for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda image: exported(image)[1], images))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


@pytest.mark.slow
def test_the_description_of_a_tflite(exported_file, tmp_path):
    _, path = exported_file("litert", "igcv3")
    bare = tmp_path / "bare.tflite"
    bare.write_bytes(path.read_bytes()[: zip_start(path)])
    with pytest.raises(ValueError, match=r"bare.tflite: has no description; only files written"):
        load_exported(bare)
    with zipfile.ZipFile(bare, "a") as archive:
        archive.writestr("igcv3det.json", json.dumps({"format": 9}))
    with pytest.raises(ValueError, match=r"bare.tflite: format 9; this version reads 1"):
        load_exported(bare)


def zip_start(path):
    with zipfile.ZipFile(path) as archive:
        return archive.infolist()[0].header_offset


@pytest.mark.slow
def test_core_ml_is_written_and_not_run(tmp_path):
    require("coreml")
    coremltools = pytest.importorskip("coremltools")
    path = tmp_path / "a.mlpackage"
    for precision in ("fp32", "fp16"):  # the second replaces the first
        export_detector(lively_detector(IGCV3), path, ExportSpec(precision))
        model = coremltools.models.MLModel(str(path), skip_model_load=True)
        description = json.loads(model.user_defined_metadata["igcv3det"])
        assert description["export"]["precision"] == precision
        spec = model.get_spec().description
        assert [port.name for port in spec.output] == ["boxes", "scores"]
        assert list(spec.input[0].type.multiArrayType.shape) == [1, 3, 64, 64]
    assert [own.name for own in tmp_path.iterdir()] == ["a.mlpackage"]


def test_a_core_ml_package_comes_back_if_its_successor_cannot_take_its_place(tmp_path):
    path = tmp_path / "a.mlpackage"
    path.mkdir()
    (path / "Manifest.json").write_text("first")
    with pytest.raises(FileNotFoundError):
        _replace(tmp_path / "missing", path, tmp_path / "earlier")
    assert (path / "Manifest.json").read_text() == "first"


def test_core_ml_is_refused_with_a_reason(tmp_path):
    (tmp_path / "a.mlpackage").mkdir()
    with pytest.raises(ValueError, match=r"a.mlpackage: Core ML files run on Apple's systems only"):
        Predictor.load(tmp_path / "a.mlpackage")
    require("coreml")
    (tmp_path / "a.mlpackage" / "notes.txt").touch()
    with pytest.raises(FileExistsError, match=r"a.mlpackage: exists, is no Core ML package"):
        export_detector(lively_detector(IGCV3), tmp_path / "a.mlpackage")


@pytest.mark.parametrize(
    ("name", "share"),  # of a tiny file, which is mostly anchors and names of layers
    [("ncnn", 0.6), pytest.param("litert", 0.85, marks=pytest.mark.slow)],
)
def test_fp16_halves_the_weights(exported_file, images, name, share):
    _, whole = exported_file(name, "igcv3")
    detector, half = exported_file(name, "igcv3", ExportSpec("fp16"))
    suffix = FORMATS[name].weights_suffix or FORMATS[name].suffix
    sizes = [path.with_suffix(suffix).stat().st_size for path in (half, whole)]
    assert sizes[0] < share * sizes[1]
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


@pytest.mark.parametrize("name", FIXED)
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


@pytest.mark.parametrize("name", FIXED)
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name):
    package = PACKAGES[name][0]
    monkeypatch.setitem(__import__("sys").modules, package, None)
    own = FORMATS[name]
    message = rf"a{own.suffix}: needs .*{package}.* 'igcv3det\[{own.extra}\]'"
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
