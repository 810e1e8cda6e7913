"""The rows as the command line of distillation takes them; training itself is tested elsewhere."""

import json
from pathlib import Path

import pytest
import torch

from igcv3det import build_detector
from igcv3det.checkpoint import load_detector, read_config, save_detector
from igcv3det.cli import eval as evaluate_command
from igcv3det.tasks.compress.design import explicit_detector
from igcv3det.tasks.distill.train import DistillationCLI
from research import distillation

TEACHER = Path("configs/mobilenetv2_ssdlite300_tf.yaml")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("distillation") / "teacher.safetensors"
    detector = build_detector(read_config(TEACHER))
    save_detector(detector, path)
    return path


@pytest.fixture
def begun(monkeypatch):
    """Every run's command line is parsed and its networks built; training is left out."""
    runs = []

    def fit(self):
        runs.append(self)
        checkpoints = self.run_folder / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        lines = "step,val/score\n" + "".join(f"{n},{90 - 10 * n - len(runs)}\n" for n in range(4))
        (self.run_folder / "metrics.csv").write_text(lines)
        return checkpoints / "best.safetensors"

    def evaluate(args):
        values = dict(zip(args[::2], args[1::2], strict=True))
        assert values["--checkpoint"].endswith("best.safetensors")
        Path(values["--output"]).write_text(json.dumps({"AP": 0.25 + len(runs) / 100}))
        return 0

    monkeypatch.setattr(DistillationCLI, "fit", fit)
    monkeypatch.setattr(evaluate_command, "main", evaluate)
    return runs


def _call(study, teacher, folder, *more):
    places = ["--images", str(folder / "images"), "--teacher", str(teacher)]
    output = ["--output", str(folder / "out"), "--runs", str(folder / "runs")]
    return distillation.main([study, *places, *output, "--seeds", "0", *more])


def test_the_rows_of_start_differ_in_one_setting(teacher, begun, tmp_path):
    evaluate = ("--evaluate", "VOC", "voc.json", "voc")
    assert _call("start", teacher, tmp_path, *evaluate) == 0
    shared, random, low_rates, morphed, relu, shallow = (run.model for run in begun)
    assert {run.config.trainer.val_check_interval for run in begun} == {50}
    starts = [run.model.distillation.start for run in begun]
    assert starts == ["shared", "random", "shared", "morph", "shared", "shared"]
    rates = [run.model.optim.muon_lr for run in begun]
    assert rates == [0.02, 0.02, 0.006, 0.006, 0.02, 0.02]
    head = next(load_detector(teacher).head.parameters())
    copied = [torch.equal(next(run.model.detector.head.parameters()), head) for run in begun]
    assert copied == [True, False, True, True, True, True]
    assert [len(model.detector.backbone.blocks) for model in (shared, shallow)] == [32, 17]
    relus = [model.detector.config.backbone.relu for model in (random, low_rates, morphed, relu)]
    assert relus == ["depthwise", "depthwise", "depthwise", "both"]
    assert all(
        p.requires_grad for p in shared.parameters()
    )  # frozen parts would flatter the copies
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    assert table[0] == "|  | n | divergence of scores | AP, VOC |"
    assert table[3] == "| random start | 1 | 58.0 | 0.270 |"
    assert (tmp_path / "out" / "curves.png").exists()

    assert _call("start", teacher, tmp_path, *evaluate) == 0
    assert len(begun) == 6  # none was repeated


def test_the_rows_of_boxes_differ_in_their_boxes(teacher, begun, tmp_path, capsys):
    files = ("--fused", "a.json", "b.json", "--single", "c.json", "--unlabelled", "d.json")
    assert _call("boxes", teacher, tmp_path, *files, "--weights", str(teacher)) == 1
    assert "only an IGCV3, or what compress makes, can be a student" in capsys.readouterr().err
    student = tmp_path / "student.safetensors"
    save_detector(build_detector(read_config("configs/distill/1_early.yaml")), student)
    begun.clear()
    assert _call("boxes", teacher, tmp_path, *files, "--weights", str(student)) == 0
    assert [list(run.datamodule.boxes) for run in begun] == [
        *(["a.json", "b.json"], ["c.json"], ["d.json"], [])
    ]
    assert [run.model.distillation.box_weight for run in begun] == [1, 1, 1, 0]


def test_the_rows_of_points_are_files_with_one_budget(teacher, begun, tmp_path):
    files = [str(tmp_path / f"{name}.safetensors") for name in ("groups-2x2", "latency0.75")]
    for file in files:
        save_detector(explicit_detector(load_detector(teacher)), file)
    assert _call("points", teacher, tmp_path, "--points", *files, "--lr", "1e-4", "5e-4") == 0
    assert [run.config.model.weights for run in begun] == [f for f in files for _ in range(2)]
    assert [run.config.model.optim.lr for run in begun] == [1e-4, 5e-4] * 2
    assert {run.config.trainer.max_steps for run in begun} == {300}
    assert {run.model.distillation.frozen for run in begun} == {("stem",)}
    table = (tmp_path / "out" / "table.md").read_text().splitlines()
    rates = ("lr 0.0001", "lr 0.0005")
    assert [line.split(" | ")[0] for line in table[2:]] == [
        f"| {name}, {rate}" for name in ("groups-2x2", "latency0.75") for rate in rates
    ]


def test_a_run_without_checkpoint_starts_again(teacher, begun, tmp_path):
    cut = tmp_path / "runs" / "start" / "shared-seed0"
    (cut / "checkpoints").mkdir(parents=True)
    (cut / "checkpoints" / "best.ckpt").touch()
    (cut / "metrics.csv").write_text("step,val/score\n0,99\n")
    assert _call("start", teacher, tmp_path) == 0
    assert begun[0].run_folder == cut
    assert json.loads((cut / "result.json").read_text())["score"] == [89, 79, 69, 59]


def test_mean_and_range_of_seeds_by_hand():
    runs = [
        distillation.Outcome([9.0, 5.0], {"VOC": 0.2}),
        distillation.Outcome([9.0, 6.0], {"VOC": 0.3}),
    ]
    lines = distillation.markdown({"A": runs, "B": []}, ["VOC"]).splitlines()
    assert lines[2] == "| A | 2 | 5.5 (5.0 to 6.0) | 0.250 (0.200 to 0.300) |"
    assert lines[3] == "| B | 0 | not run |  |"


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (["boxes", "--fused", "a.json"], "--weights, --single, --unlabelled"),
        (["start", "--weights", "a.safetensors"], "--weights is for boxes"),
    ],
)
def test_wrong_calls(call, named, teacher, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        _call(call[0], teacher, tmp_path, *call[1:])
    assert stop.value.code == 2
    assert named in capsys.readouterr().err
