"""Exported files: their detections, and the refusal of files with a wrong description."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from igcv3det.config import PostprocessConfig
from igcv3det.predictor import Predictor

REASON = "needs the extra igcv3det[export]"
for _package in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(_package, reason=REASON)

from exported_files import (  # noqa: E402
    CANDIDATES,
    CATEGORIES,
    CONFIG,
    IMAGE,
    SIZE,
    WITH_NMS,
    describe,
    write_stub,
)

from igcv3det.runtime import ExportSpec, load_exported  # noqa: E402

KINDS = [ExportSpec(), ExportSpec(nms=True), ExportSpec(preprocessing=True)]
IDS = ["candidates", "nms", "image"]
WHITE = np.full((20, 64, 3), 255, dtype=np.uint8)


@pytest.fixture(params=[".onnx", ".xml"])
def suffix(request):
    return request.param


@pytest.mark.parametrize("spec", KINDS, ids=IDS)
def test_an_image_through_each_kind_of_file(tmp_path, suffix, spec):
    predictor = Predictor.load(write_stub(tmp_path / f"stub{suffix}", spec))
    found = predictor(WHITE)
    # the quarter and the whole of 64 x 20 pixels; NMS removes the second dog
    assert_close(found.boxes, torch.tensor([[0.0, 0, 32, 10], [0, 0, 64, 20]]))
    assert_close(found.scores, torch.tensor([1.0, 0.5]))
    assert found.names == ["dog", "cat"]
    assert found.category_ids == [8, 3]
    assert predictor.categories == CATEGORIES


@pytest.mark.parametrize("spec", KINDS, ids=IDS)
def test_batches_of_images_of_several_sizes(tmp_path, suffix, spec):
    predictor = Predictor.load(write_stub(tmp_path / f"stub{suffix}", spec))
    grey = np.full((8, 8, 3), 51, dtype=np.uint8)
    found = predictor.predict_batch([WHITE, grey, WHITE])
    assert_close(found[1].boxes, torch.tensor([[0.0, 0, 4, 4], [0, 0, 8, 8]]))
    assert_close(found[1].scores, torch.tensor([0.2, 0.1]))
    assert_close(found[2].boxes, found[0].boxes)
    assert predictor.predict_batch([]) == []


@pytest.mark.parametrize("spec", KINDS, ids=IDS)
def test_thresholds(tmp_path, suffix, spec):
    path = write_stub(tmp_path / f"stub{suffix}", spec)
    assert Predictor.load(path, score_threshold=0.6)(WHITE).names == ["dog"]
    assert Predictor.load(path, detections_per_image=1)(WHITE).names == ["dog"]
    assert len(Predictor.load(path, score_threshold=0.6)(0 * WHITE)) == 0


def test_the_graphs_own_outputs(tmp_path, suffix):
    exported = load_exported(write_stub(tmp_path / f"stub{suffix}"), threads=1)
    boxes, scores = exported(torch.full((4, 3, SIZE, SIZE), 0.5))
    assert boxes.shape == (4, 3, 4)
    assert_close(scores[3], torch.tensor([[0, 0.5], [0.25, 0], [0, 0.375]]))
    first = exported(torch.zeros(1, 3, SIZE, SIZE))[1]
    exported(torch.ones(1, 3, SIZE, SIZE))
    assert first.max() == 0  # not overwritten by the next call
    assert exported.example_input(3).shape == (3, 3, SIZE, SIZE)


def test_examples_of_images(tmp_path):
    exported = load_exported(write_stub(tmp_path / "a.onnx", ExportSpec(preprocessing=True)))
    example = exported.example_input(2)
    assert example.shape == (2, SIZE, SIZE, 3)
    assert example.dtype == torch.uint8


def test_bfloat16_is_for_openvino_only(tmp_path):
    write_stub(tmp_path / "a.xml")
    scores = load_exported(tmp_path / "a.xml", bf16=True)(torch.ones(1, 3, SIZE, SIZE))[1]
    assert_close(scores[0, 0, 1].item(), 1.0, rtol=0.01, atol=0)
    with pytest.raises(ValueError, match=r"a.onnx: bfloat16 is a hint that only OpenVINO"):
        load_exported(write_stub(tmp_path / "a.onnx"), bf16=True)


WRONG = {
    "no description": ("", None, "has no description"),
    "no JSON": ("{", None, "is not JSON"),
    "another format": ({"format": 9}, None, "format 9; this version reads 1"),
    "precision": (
        {"export": {**ExportSpec().as_description(CONFIG), "precision": "int4"}},
        None,
        "precision must be one of .*, got 'int4'",
    ),
    "no spec": ({"export": None}, None, "lacks 'export'"),
    "classes": (
        {"categories": {"ids": [1, 2, 3], "names": ["a", "b", "c"]}},
        None,
        "num_classes is 2, but there are 3",
    ),
    "preprocessing": (
        {"export": ExportSpec(preprocessing=True).as_description(CONFIG)},
        None,
        r"the input is images uint8\['any', 'any', 'any', 3\], but the graph has images float32",
    ),
    "nms": (
        {"export": ExportSpec(nms=True).as_description(CONFIG)},
        None,
        r"the input is images float32\[1, 3, 32, 32\], but the graph has .*\['any', 3, 32, 32\]",
    ),
    "batch": (
        {},
        CANDIDATES.replace("float[batch, 3, 32", "float[4, 3, 32").replace(
            "float[batch", "float[4"
        ),
        r"the input is images float32\['any', 3, 32, 32\], but the graph has .*\[4, 3, 32, 32\]",
    ),
    "size": (
        {},
        CANDIDATES.replace("3, 32, 32]", "3, 64, 64]"),
        r"\['any', 3, 32, 32\], but the graph has images float32\['any', 3, 64, 64\]",
    ),
    "number of classes": (
        {},
        CANDIDATES.replace("float[batch, 3, 2]", "float[batch, 3, 1]")
        .replace("float[1, 3, 2] shares", "float[1, 3, 1] shares")
        .replace("{0, 1, 0.5, 0, 0, 0.75}", "{0, 1, 0.5}"),
        r"scores float32\['any', 3, 2\], but the graph has .*scores float32\['any', 3, 1\]",
    ),
    "outputs": (
        {},
        CANDIDATES.replace("scores", "chances"),
        "scores float32.*, but the graph has boxes float32.*, chances float32",
    ),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_a_wrong_description_is_refused(tmp_path, suffix, case):
    description, graph, message = WRONG[case]
    if isinstance(description, dict):
        description = json.dumps(describe(ExportSpec(), **description))
    path = write_stub(tmp_path / f"wrong{suffix}", description=description, graph=graph)
    with pytest.raises(ValueError, match=rf"wrong{suffix}: .*{message}"):
        load_exported(path)


def test_a_spec_that_contradicts_itself(tmp_path):
    spec = ExportSpec().as_description(CONFIG)
    spec["input"]["layout"] = "BHWC"
    text = json.dumps(describe(ExportSpec(), export=spec))
    with pytest.raises(ValueError, match=r"a.onnx: the description's 'export' contradicts itself"):
        load_exported(write_stub(tmp_path / "a.onnx", description=text))


def test_a_label_without_a_name(tmp_path):
    graph = WITH_NMS.replace("classes = {2, 1}", "classes = {3, 1}")
    path = write_stub(tmp_path / "a.onnx", ExportSpec(nms=True), graph=graph)
    with pytest.raises(
        ValueError, match=r"a.onnx: returned label 3, but its description names 2 categories"
    ):
        Predictor.load(path)(WHITE)


def test_files_that_are_no_graphs(tmp_path, suffix):
    path = tmp_path / f"bad{suffix}"
    with pytest.raises(FileNotFoundError, match=f"bad{suffix}: no such file"):
        load_exported(path)
    path.write_bytes(b"not a graph at all")
    with pytest.raises(ValueError, match=f"bad{suffix}: .* cannot read it: ."):
        load_exported(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=f"bad{suffix}: .* cannot read it: ."):
        load_exported(path)


@pytest.mark.parametrize(
    ("suffix", "package"), [(".tflite", "ai_edge_litert"), (".pte", "executorch")]
)
def test_files_of_other_runtimes_that_are_no_graphs(tmp_path, suffix, package):
    pytest.importorskip(package, reason="needs the extra of that runtime")
    path = tmp_path / f"bad{suffix}"
    for content in (b"", b"not a graph at all", b"PK\x05\x06" + bytes(18)):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"bad{suffix}: .* cannot read it: ."):
            load_exported(path)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "a.onnx").mkdir()
    with pytest.raises(FileNotFoundError, match=r"a.onnx: no such file"):
        load_exported(tmp_path / "a.onnx")


def test_xml_without_its_weights(tmp_path):
    path = write_stub(tmp_path / "a.xml")
    (tmp_path / "a.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"a.bin: no such file; a.xml needs these weights"):
        load_exported(path)


def test_arguments(tmp_path):
    (tmp_path / "a.pb").touch()
    with pytest.raises(ValueError, match=r"a.pb: an exported detector ends in .onnx, .xml"):
        load_exported(tmp_path / "a.pb")
    with pytest.raises(ValueError, match="threads must be >= 1, got 0"):
        load_exported(write_stub(tmp_path / "a.onnx"), threads=0)


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
def test_a_runtime_that_is_not_installed(tmp_path, monkeypatch, package):
    path = write_stub(tmp_path / ("a.onnx" if package == "onnxruntime" else "a.xml"))
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=rf"{path.name}: .*{package}.*igcv3det\[export\]"):
        load_exported(path)


def test_exported_files_run_on_the_cpu(tmp_path, monkeypatch):
    path = write_stub(tmp_path / "a.onnx")
    monkeypatch.setattr("igcv3det.predictor.existing_device", torch.device)  # as if it were there
    with pytest.raises(ValueError, match=r"exported files run on the cpu"):
        Predictor(load_exported(path), "meta")


def test_height_and_width_are_not_mixed_up(tmp_path):
    assert "height, width" in IMAGE
    exported = load_exported(write_stub(tmp_path / "a.onnx", ExportSpec(preprocessing=True)))
    boxes, _ = exported(torch.zeros(1, 10, 40, 3, dtype=torch.uint8))
    assert_close(boxes[0, 1], torch.tensor([0.0, 0, 40, 10]))
    (found,) = exported.detect(
        [torch.full((10, 40, 3), 255, dtype=torch.uint8)], [(10, 40)], PostprocessConfig()
    )
    assert_close(found.boxes[1], torch.tensor([0.0, 0, 40, 10]))


@pytest.mark.parametrize("spec", KINDS, ids=IDS)
def test_arrays_of_any_strides(tmp_path, spec):
    predictor = Predictor.load(write_stub(tmp_path / "stub.onnx", spec))
    bgr = np.random.default_rng(0).integers(0, 256, WHITE.shape, dtype=np.uint8)
    rgb = bgr[:, :, ::-1]  # the usual conversion of OpenCV's frames
    read_only = np.ascontiguousarray(rgb)
    read_only.flags.writeable = False
    expected = predictor(np.ascontiguousarray(rgb))
    assert len(expected)
    for image in (rgb, read_only):
        assert_close(predictor(image).scores, expected.scores, rtol=0, atol=0)


def test_one_predictor_in_several_threads(tmp_path, suffix):
    predictor = Predictor.load(write_stub(tmp_path / f"stub{suffix}"))
    images = [np.full_like(WHITE, grey) for grey in range(40, 200)]
    expected = [predictor(image).scores for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor, images))
    assert_close([detections.scores for detections in found], expected, rtol=0, atol=0)
