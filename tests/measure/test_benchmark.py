"""Which files a benchmark opens."""

from pathlib import Path

import pytest

from igcv3det.measure.benchmark import BenchmarkSettings, checkpoint_targets, plan_groups
from igcv3det.measure.targets import BenchmarkTarget


def test_each_model_exports_to_a_folder_of_its_own(tmp_path):
    """Of these two paths a name with dashes for slashes is the same."""
    models = [Path("runs/a-b/c/best.ckpt"), Path("runs/a/b-c/best.ckpt")]

    def find(name, model, wanted, settings, folder):
        (folder / "fp32.onnx").write_text(str(model))
        yield BenchmarkTarget(name, str(folder / "fp32.onnx"), *wanted[0])

    settings = BenchmarkSettings()
    groups, failures = plan_groups(models, ["onnxruntime"], ["fp32"], settings, tmp_path, find)
    targets = groups[0].targets.values()
    assert failures == []
    assert [Path(target.path).read_text() for target in targets] == list(map(str, models))


@pytest.mark.parametrize("image_size", [None, 64])
def test_libraries_share_the_files_that_both_can_run(tmp_path, image_size):
    written = []

    def export(path, precision):
        written.append((path.name, precision))
        path.touch()

    wanted = [(b, p) for b in ("torch", "onnxruntime", "openvino") for p in ("fp32", "bf16")]
    settings = BenchmarkSettings(1, 2, image_size)
    rows = list(checkpoint_targets("a", tmp_path / "a.ckpt", wanted, settings, tmp_path, export))
    assert written == [("fp32.onnx", "fp32"), ("fp32.xml", "fp32")]
    assert [(row.backend, row.precision, Path(row.path).name) for row in rows] == [
        ("torch", "fp32", "a.ckpt"),
        ("torch", "bf16", "a.ckpt"),
        ("onnxruntime", "fp32", "fp32.onnx"),
        ("openvino", "fp32", "fp32.xml"),
        ("openvino", "bf16", "fp32.xml"),  # computed so from float32 weights
    ]
    assert {row[4:] for row in rows} == {(1, 2, image_size)}
