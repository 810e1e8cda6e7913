"""Executing plans: runs are resumed and never repeated."""

import copy
import json
import shutil

import pytest
import torch
import yaml
from killed_runs import killed_at
from tiny_classification import SETTINGS

from igcv3det.measure.machine import describe_machine
from igcv3det.tasks.classify.module import ClassificationModule
from research.ablation.runs import Run
from tools import ablate

PLAN = {
    "title": "Tiny",
    "seeds": [0, 1],
    "comparison_groups": {"p": "With and without P1"},
    "base": copy.deepcopy(SETTINGS) | {"save_every_n_steps": 2},
    "experiments": {
        "with P1": {"comparison_groups": ["p"]},
        "without P1": {
            "comparison_groups": ["p"],
            "changes": {"model.classifier.backbone.p1": False},
        },
    },
}


@pytest.fixture
def call(tmp_path):
    def call(*options, name="out", **changes):
        path = tmp_path / "plan.yaml"
        path.write_text(yaml.safe_dump(copy.deepcopy(PLAN) | changes, sort_keys=False))
        return ablate.main(["--config", str(path), "--output", str(tmp_path / name), *options])

    return call


@pytest.fixture
def executed(monkeypatch):
    """Names of the runs that were started."""
    names = []
    execute = Run.execute
    monkeypatch.setattr(Run, "execute", lambda self: names.append(self.name) or execute(self))
    return names


def test_finished_runs_are_not_repeated(call, executed, tmp_path, capsys):
    assert call() == 0
    assert [name[:-13] for name in executed] == [
        *("with-p1-seed0", "without-p1-seed0", "with-p1-seed1", "without-p1-seed1")
    ]
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out/table.md")
    table = (tmp_path / "out/table.md").read_text()
    assert table.count("| 2 of 2 |") == 2
    assert "not run" not in table
    assert f"Trained on {describe_machine()}, 20" in table
    assert "Both: 20" in table
    results = [json.loads(p.read_text()) for p in (tmp_path / "out/results").glob("with-p1-*")]
    mean = 100 * sum(result["top1"] for result in results) / 2
    assert f"| with P1 | {mean:.2f} |" in table
    assert all(len(result["curve"]) == 2 for result in results)
    assert (tmp_path / "out/curves-p.png").exists()
    costs = (tmp_path / "out/costs.json").read_text()
    for speed in json.loads(costs)["speeds"].values():
        # training on an image takes less than ten times its inference
        assert speed["images_per_second"] > 100 / speed["latency_ms"] > 0
    executed.clear()
    assert call() == 0
    assert executed == []
    assert (tmp_path / "out/table.md").read_text() == table
    assert (tmp_path / "out/costs.json").read_text() == costs  # nothing is timed again


def test_a_changed_setting_is_another_run(call, executed):
    one = ("--only", "without P1")
    assert call(*one, seeds=[0]) == 0
    assert call(*one, seeds=[0]) == 0
    assert len(executed) == 1
    changed = copy.deepcopy(PLAN["base"])
    changed["trainer"]["max_epochs"] = 1
    assert call(*one, seeds=[0], base=changed) == 0
    assert len(executed) == 2


def only_result(folder):
    (path,) = (folder / "results").glob("with-p1-*.json")
    return json.loads(path.read_text())


def test_an_interrupted_run_resumes_to_the_same_result(call, tmp_path):
    one = {"seeds": [3], "experiments": {"with P1": {"comparison_groups": ["p"]}}}
    assert call(name="whole", **one) == 0
    with killed_at(ClassificationModule, 5):
        call(name="cut", **one)
    assert not (tmp_path / "cut/results").exists()
    (last,) = (tmp_path / "cut/runs").glob("with-p1-*/checkpoints/last.ckpt")
    assert torch.load(last, weights_only=True)["global_step"] == 4
    assert call(name="cut", **one) == 0
    whole, cut = (only_result(tmp_path / name) for name in ("whole", "cut"))
    assert whole["date"] <= cut["date"]
    assert whole | {"date": None} == cut | {"date": None}
    assert len(list((tmp_path / "cut/runs").iterdir())) == 2  # the run and its settings


def test_a_run_without_checkpoint_starts_again(call, tmp_path):
    one = {"seeds": [3], "experiments": {"with P1": {"comparison_groups": ["p"]}}}
    assert call(name="a", **one) == 0
    result = only_result(tmp_path / "a")
    (run,) = (path for path in (tmp_path / "a/runs").iterdir() if path.is_dir())
    for path in (*run.rglob("*.ckpt"), *run.rglob("*.safetensors")):
        path.unlink()
    shutil.rmtree(tmp_path / "a/results")
    assert call(name="a", **one) == 0
    assert only_result(tmp_path / "a")["curve"] == result["curve"]


def test_results_can_be_copied_from_another_machine(call, executed, tmp_path):
    assert call(name="there", seeds=[0]) == 0
    shutil.copytree(tmp_path / "there/results", tmp_path / "here/results")
    executed.clear()
    assert call(name="here") == 0
    assert [name[:-13] for name in executed] == ["with-p1-seed1", "without-p1-seed1"]
    assert (tmp_path / "here/table.md").read_text().count("| 2 of 2 |") == 2


def test_a_damaged_result_is_named(call, tmp_path, capsys):
    assert call("--only", "with P1", seeds=[0]) == 0
    (path,) = (tmp_path / "out/results").iterdir()
    path.write_text('{"name": "with P1"}')
    assert call(seeds=[0]) == 1
    assert str(path) in capsys.readouterr().err.splitlines()[-1]


def test_a_diverging_run_is_named_and_the_others_are_executed(call, tmp_path, capsys):
    experiments = {
        "too fast": {"comparison_groups": ["p"], "changes": {"model.optim.lr": 1e38}},
        "with P1": {"comparison_groups": ["p"]},
    }
    assert call(seeds=[0], experiments=experiments) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("ablate: ")]
    assert "too-fast-seed0" in line
    assert "not finite" in line
    table = (tmp_path / "out/table.md").read_text()
    assert "| too fast | not run |" in table
    assert "| with P1 | not run |" not in table


def test_table_without_training(call, executed, tmp_path):
    assert call("--table") == 0
    assert executed == []
    assert (tmp_path / "out/table.md").read_text().count("| not run |") == 2


def test_parallel_runs_give_the_same_results(call, tmp_path, capsys):
    experiments = {
        "with P1": {"comparison_groups": ["p"]},
        "too fast": {"comparison_groups": ["p"], "changes": {"model.optim.lr": 1e38}},
    }
    assert call("--only", "with P1", name="turn", seeds=[0], experiments=experiments) == 0
    assert call("--jobs", "2", name="side", seeds=[0], experiments=experiments) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("ablate: ")]
    assert "too-fast-seed0" in line
    assert "not finite" in line
    in_turn, side = (only_result(tmp_path / name) for name in ("turn", "side"))
    assert side["hash"] == in_turn["hash"]
    assert side["curve"] == pytest.approx(in_turn["curve"], abs=0.1)  # other threads
    assert len(list((tmp_path / "side/runs").glob("*.log"))) == 2
    assert "| 1 of 1 |" in (tmp_path / "side/table.md").read_text()


@pytest.mark.parametrize(
    ("options", "changes", "message"),
    [
        (["--only", "P9"], {}, "no experiment ['P9']"),
        ([], {"seeds": "x"}, "seeds must be"),
        (["--config", "absent.yaml"], {}, "absent.yaml"),
    ],
)
def test_wrong_calls(call, capsys, options, changes, message):
    assert call(*options, **changes) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ablate: ")
    assert message in line


@pytest.mark.slow
def test_the_default_plan_learns_synthetic_shapes(tmp_path):
    assert ablate.main(["--only", "IGCV2", "--output", str(tmp_path)]) == 0
    results = [json.loads(path.read_text()) for path in tmp_path.glob("results/*.json")]
    assert len(results) == 2
    assert all(result["top1"] > 0.3 for result in results)  # 1/6 by chance
