"""Files whose name does not say what they are, and files of other tools."""

import pytest

pytest.importorskip("onnx", reason="needs the extra igcv3det[export]")  # of exported_files

import ncnn_stub
import onnx
from exported_files import CANDIDATES, write_stub

from igcv3det.checkpoint import load_detector
from igcv3det.predictor import Predictor

TFLITE = b"\x1c\0\0\0TFL3" + bytes(200)
PTE = b"\x20\0\0\0ET12" + bytes(200)
XML = b'<?xml version="1.0"?>\n<net name="a" version="11">'
CONTENTS = {".tflite": TFLITE, ".pte": PTE, ".xml": XML, ".param": ncnn_stub.LAYERS.encode()}


@pytest.mark.parametrize("named", [".onnx", ".xml", ".param", ".tflite", ".pte"])
@pytest.mark.parametrize("suffix", [*CONTENTS, ".onnx"])
def test_the_content_names_the_right_ending(tmp_path, named, suffix):
    if suffix == named:
        return
    path = tmp_path / f"a{named}"
    path.write_bytes(CONTENTS.get(suffix) or write_stub(tmp_path / "b.onnx").read_bytes())
    with pytest.raises(ValueError, match=rf"/a{named}: its content is .* rename it to a{suffix}$"):
        Predictor.load(path)


@pytest.mark.parametrize("suffix", [".xml", ".param"])
@pytest.mark.parametrize("load", [Predictor.load, load_detector])
def test_weights_of_a_graph_name_the_graph(tmp_path, suffix, load):
    weights = tmp_path / "a.bin"
    weights.write_bytes(b"123")
    with pytest.raises(
        ValueError, match=r"a.bin: the weights of .*; give its .xml or .param file$"
    ):
        load(weights)
    (tmp_path / f"a{suffix}").write_bytes(CONTENTS[suffix])
    with pytest.raises(ValueError, match=rf"a.bin: the weights of .*; give its a{suffix}$"):
        load(weights)


def test_an_exported_file_is_no_checkpoint(tmp_path):
    path = write_stub(tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"a.onnx: an exported file .* Predictor.load"):
        load_detector(path)


def test_an_onnx_file_of_another_tool(tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra igcv3det[export]")
    model = onnx.parser.parse_model(CANDIDATES)
    onnx.helper.set_model_props(model, {"author": "another", "task": "detect"})
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"a.onnx: has no description; only files .* igcv3det"):
        Predictor.load(tmp_path / "a.onnx")
