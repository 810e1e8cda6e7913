"""research/block_variants.py as a user runs it, on tiny detectors."""

import json

import pytest

from research.block_variants import BLOCK_VARIANTS, WHOLE_VARIANTS, main

YAML = """
model:
  detector: {num_classes: 2, image_size: 64, backbone: {name: NAME, width: 0.25, DEPTH}}
"""


@pytest.fixture
def run(tmp_path):
    for name, depth in (("igcv3", "depth: 0.1"), ("mobilenetv2", "dropout: 0.0")):
        text = YAML.replace("NAME", name).replace("DEPTH", depth)
        (tmp_path / f"{name}.yaml").write_text(text)

    def run(*args):
        figures = tmp_path / "figures.json"
        models = [f"--config={tmp_path}/igcv3.yaml", f"--against={tmp_path}/mobilenetv2.yaml"]
        options = ["--rounds", "1", "--threads", "1", "--json", str(figures)]
        assert main([*models, *options, *args]) == 0
        return json.loads(figures.read_text())

    return run


def test_every_variant_and_width(run, capsys):
    rows = run("--backend", "torch", "--precision", "fp32", "--widths", "--clock", "cpu")
    whole = ["mobilenetv2", *WHOLE_VARIANTS, "deploy's choice"]
    names = [row["variant"] for row in rows]
    assert names[: len(whole)] == whole
    widths = {name.split(":")[0] for name in names[len(whole) :]}
    assert "8 to 4" in widths
    assert len(names) == len(whole) + len(widths) * (len(BLOCK_VARIANTS) - 1)
    assert rows[0]["ratio"] == 1.0
    assert "torch fp32" in capsys.readouterr().out


@pytest.mark.slow
def test_libraries_and_where_the_time_goes(run, capsys):
    for package in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(package, reason="needs the extra igcv3det[export]")
    rows = run("--backend", "onnxruntime,openvino")
    assert {(row["backend"], row["precision"]) for row in rows} == {
        ("onnxruntime", "fp32"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
    }
    text = capsys.readouterr().out
    assert "permutations" in text.split("onnxruntime, permuted")[1].split("all ")[0]
    assert "permutations" not in text.split("onnxruntime, onnxruntime")[1].split("all ")[0]
