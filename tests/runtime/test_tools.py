"""Exported files where the tools take a model."""

import json

import numpy as np
import pytest

for _package in ("onnx", "onnxruntime", "openvino"):
    pytest.importorskip(_package, reason="needs the extra igcv3det[export]")

from coco_files import coco, write_json  # noqa: E402
from exported_files import CATEGORIES, write_stub  # noqa: E402

from igcv3det.io.images import write_image  # noqa: E402
from igcv3det.runtime import ExportSpec  # noqa: E402
from tools import compare, eval_det, infer  # noqa: E402


@pytest.fixture
def data(tmp_path):
    """One white image of 64 x 20 with the dog that the stub finds in its first quarter."""
    write_image(tmp_path / "0.png", np.full((20, 64, 3), 255, dtype=np.uint8))
    content = coco([0], [(0, 8, [0, 0, 32, 10]), (0, 3, [0, 0, 64, 20])], CATEGORIES)
    content["images"][0] |= {"width": 64, "height": 20}
    return tmp_path, write_json(tmp_path / "annotations.json", content)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    "spec", [ExportSpec(), ExportSpec(nms=True), ExportSpec(preprocessing=True)]
)
def test_infer_and_eval(data, suffix, spec):
    folder, annotations = data
    model = str(write_stub(folder / f"stub{suffix}", spec))
    image, records, figures = (str(folder / n) for n in ("0.png", "out.json", "metrics.json"))
    assert infer.main([image, "--checkpoint", model, "--json", records]) == 0
    (record,) = json.loads((folder / "out.json").read_text())
    assert [found["category_id"] for found in record["detections"]] == [8, 3]
    assert record["detections"][0]["box"] == pytest.approx([0, 0, 32, 10], abs=1e-3)
    arguments = ["--annotations", str(annotations), "--images", str(folder), "--output", figures]
    assert eval_det.main(["--checkpoint", model, *arguments]) == 0
    assert json.loads((folder / "metrics.json").read_text())["AP"] == pytest.approx(1.0)


def test_compare(data):
    folder, annotations = data
    models = [str(write_stub(folder / "one.onnx")), str(write_stub(folder / "two.xml"))]
    arguments = ["--annotations", str(annotations), "--images", str(folder), "--rounds", "1"]
    assert compare.main([*models, *arguments, "--json", str(folder / "rows.json")]) == 0
    rows = json.loads((folder / "rows.json").read_text())
    assert [(row["name"], row["AP"]) for row in rows] == [
        ("one", pytest.approx(1.0)),
        ("two", pytest.approx(1.0)),
    ]


@pytest.mark.parametrize("tool", [infer, eval_det, compare])
def test_a_bad_file_is_one_line(data, capsys, tool):
    folder, annotations = data
    model = str(folder / "bad.onnx")
    (folder / "bad.onnx").write_bytes(b"no graph")
    arguments = {
        infer: [str(folder / "0.png"), "--checkpoint", model, "--json", str(folder / "o.json")],
        eval_det: [
            "--checkpoint", model, "--annotations", str(annotations), "--images", str(folder)
        ],
        compare: [model],
    }  # fmt: skip
    assert tool.main(arguments[tool]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "bad.onnx" in line
