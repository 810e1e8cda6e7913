"""The search of ``train DATA --tune N``: its space, its study, and a search from start to end."""

import json
import multiprocessing
import signal
import subprocess
import sys
import types
from contextlib import closing
from pathlib import Path

import pytest
from coco_files import save_tiny_detector
from layouts import write_layout

from igcv3det.cli.train import main
from igcv3det.tasks.detect.search_space import as_options, search_space, trial_length

VALUES = {"model.optim.lr": 5e-4, "model.optim.weight_decay": 0.01, "model.optim.warmup_steps": 20}


def test_the_space_surrounds_what_training_would_take():
    space = {own.name: own for own in search_space(VALUES, {}, steps=400)}
    assert list(space) == ["lr", "weight decay", "warm-up", "crop"]
    assert (space["lr"].low, space["lr"].high) == pytest.approx((1e-4, 2.5e-3))
    assert space["warm-up"].default == 0.05
    for own in space.values():
        assert own.low <= own.default <= own.high
        assert own.reason


@pytest.mark.parametrize(
    ("values", "given", "missing"),
    [
        ({}, {"model.optim.lr": 1}, "lr"),
        ({"model.optim.weight_decay": 0.0}, {}, "weight decay"),
        ({"data.augmentation": "a.yaml"}, {}, "crop"),
        ({"data.augment.preset": "flip"}, {}, "crop"),
    ],
)
def test_what_is_given_or_has_no_effect_is_not_searched(values, given, missing):
    names = {own.name for own in search_space(VALUES | values, given, steps=400)}
    assert names == {"lr", "weight decay", "warm-up", "crop"} - {missing}


def test_values_become_options():
    space = search_space(VALUES, {}, steps=400)
    options = as_options(space, {"lr": 0.001, "warm-up": 0.1, "crop": 0.5}, steps=400)
    assert options == {
        "model.optim.lr": 0.001,
        "model.optim.warmup_steps": 40,
        "data.augment.crop_min_scale": 0.5,
    }


@pytest.mark.parametrize(
    ("values", "options", "steps"),
    [
        ({"trainer.max_epochs": 40}, {"trainer.max_epochs": 10, "interval": 2}, 180),
        ({"trainer.max_epochs": 7}, {"trainer.max_epochs": 2, "interval": 1}, 36),
        ({"trainer.max_epochs": 1}, {"trainer.max_epochs": 1, "interval": 1}, 18),
        # the last of 13 epochs is validated
        ({"trainer.max_epochs": 52}, {"trainer.max_epochs": 13, "interval": 1}, 234),
        ({"trainer.max_steps": 720}, {"trainer.max_steps": 180, "interval": 2}, 180),
        # no end by steps
        (
            {"trainer.max_steps": -1, "trainer.max_epochs": 20},
            {"trainer.max_epochs": 5, "interval": 1},
            90,
        ),
    ],
)
def test_a_trial_is_a_quarter_with_its_validations(values, options, steps):
    length = trial_length(values, epoch_steps=18)
    options["trainer.check_val_every_n_epoch"] = options.pop("interval")
    assert length.options == options
    assert length.steps == steps


def _study(tmp_path, name="runs/a", **call):
    from igcv3det.tasks.detect.study import open_study

    return open_study(tmp_path / name / "tune", "a", None, {"data": "mine", **call})


@pytest.fixture
def space():
    pytest.importorskip("optuna")
    return search_space(VALUES, {}, steps=400)


def test_trials_end_at_their_number_and_the_first_takes_the_defaults(tmp_path, space):
    from igcv3det.tasks.detect.study import best_trial, ended_trials, run_trials, study_table

    seen = []

    def objective(trial, chosen):
        seen.append(chosen)
        trial.report(chosen["crop"], step=0)
        return chosen["crop"]

    study = _study(tmp_path)
    run_trials(study, space, 3, objective)
    assert len(seen) == 3
    assert seen[0] == pytest.approx({own.name: own.default for own in space})
    run_trials(_study(tmp_path), space, 5, objective)  # another call resumes
    run_trials(_study(tmp_path), space, 5, objective)  # and there is nothing left to do
    assert len(seen) == 5
    assert len({chosen["lr"] for chosen in seen}) == 5  # no draw is repeated
    study = _study(tmp_path)
    assert ended_trials(study) == 5
    assert best_trial(study).value == max(chosen["crop"] for chosen in seen)
    header, first, *_ = study_table(study, space).splitlines()
    assert header.split() == ["trial", "AP", "lr", "weight", "decay", "warm-up", "crop", "state"]
    assert first.split()[1] == f"{best_trial(study).value:.3f}"


def test_a_killed_trial_is_repeated(tmp_path, space):
    from igcv3det.tasks.detect.study import ended_trials, run_trials

    def killed(trial, chosen):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trials(_study(tmp_path), space, 2, killed)
    seen = []
    run_trials(_study(tmp_path), space, 2, lambda trial, chosen: seen.append(chosen) or 0.5)
    assert seen[0] == pytest.approx({own.name: own.default for own in space})
    assert ended_trials(_study(tmp_path)) == 2


def test_trials_below_the_median_are_pruned(tmp_path, space):
    import optuna

    from igcv3det.tasks.detect.study import run_trials, study_table

    def objective(trial, chosen):
        values = [0.5, 0.4, 0.6, 0.5, 0.1]
        trial.report(values[trial.number], step=0)
        if trial.should_prune():
            raise optuna.TrialPruned
        return values[trial.number]

    study = _study(tmp_path)
    run_trials(study, space, 5, objective)
    last = study_table(study, space).splitlines()[-1].split()
    assert (last[0], last[1], last[-1]) == ("4", "0.100", "pruned")


def test_a_study_of_another_call_is_refused(tmp_path, space):
    _study(tmp_path, epochs=3)
    with pytest.raises(ValueError, match=r"another epochs: choose another --output"):
        _study(tmp_path, epochs=4)


def test_machines_share_a_storage(tmp_path, space, monkeypatch):
    from igcv3det.tasks.detect import study as studies

    url = f"sqlite:///{tmp_path / 'shared.db'}"
    opened = [
        studies.open_study(tmp_path / machine / "tune", "mine", url, {"data": "mine"})
        for machine in ("a", "b")
    ]
    for count, study in zip((1, 3), opened, strict=True):
        studies.run_trials(study, space, count, lambda trial, chosen: chosen["crop"])
    assert [len(study.trials) for study in opened] == [3, 3]
    assert studies.is_owner(opened[0])
    monkeypatch.setattr(studies.platform, "node", lambda: "another")
    assert not studies.is_owner(opened[1])


@pytest.mark.parametrize("url", ["nonsense", "nonsense://a/b", "sqlite:////no/such/folder/a.db"])
def test_a_storage_that_cannot_be_opened(tmp_path, space, url):
    from igcv3det.tasks.detect.study import open_study

    with pytest.raises(ValueError, match="no study: ") as error:
        open_study(tmp_path / "tune", "a", url, {})
    assert str(error.value).startswith(f"{url}: ")
    assert "\n" not in str(error.value)


def test_a_search_without_a_completed_trial_has_no_best(tmp_path, space):
    import optuna

    from igcv3det.tasks.detect.study import best_trial, run_trials

    def objective(trial, chosen):
        raise optuna.TrialPruned

    study = _study(tmp_path)
    run_trials(study, space, 2, objective)
    with pytest.raises(ValueError, match="no trial was completed"):
        best_trial(study)


class _Validations:
    """A training that only reports APs."""

    def __init__(self, *values):
        self.values = values
        self.trainer = types.SimpleNamespace(
            callbacks=[], sanity_checking=False, callback_metrics={}, should_stop=False
        )

    def __call__(self, arguments):
        return self

    def fit(self):
        for value in self.values:
            if not self.trainer.should_stop:
                self.trainer.callback_metrics["val/AP"] = value
                self.trainer.callbacks[0].on_validation_end(self.trainer, None)


@pytest.mark.parametrize(
    ("values", "reached"),
    [((0.1, 0.3, 0.2), 0.3), ((float("nan"), 0.2), 0.2), ((float("nan"),), None), ((), None)],
)
def test_the_best_ap_of_a_trial_counts(tmp_path, monkeypatch, values, reached):
    optuna = pytest.importorskip("optuna")
    from igcv3det.tasks.detect import tuning

    monkeypatch.setattr(tuning, "DetectionCLI", _Validations(*values))
    search = tuning.Search(tmp_path / "run", None, {}, [].append)
    trial = search.study.ask()
    if reached is None:
        with pytest.raises(optuna.TrialPruned):
            search._train(trial, [])
    else:
        assert search._train(trial, []) == reached


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    pytest.importorskip("optuna")
    from igcv3det.tasks.detect import tuning

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").touch()
    for _ in range(2):  # the second call finds the search of the first
        with closing(tuning.Search(tmp_path / "run", None, {}, [].append)) as search:
            assert search.folder == tmp_path / "run-2"


def _search_elsewhere(path, events):
    """A search of another process that is in the middle of a trial."""
    from igcv3det.tasks.detect import tuning

    search = tuning.Search(path, None, {"data": "mine"}, [].append)
    search.study.ask().suggest_float("lr", 0.1, 1)
    events[0].set()
    events[1].wait(60)
    search.study.tell(0, 0.5)
    search.close()
    events[0].set()


def test_a_search_that_is_running_is_left_alone(tmp_path):
    pytest.importorskip("optuna")
    from igcv3det.tasks.detect import tuning

    context = multiprocessing.get_context("spawn")
    events = told, go = context.Event(), context.Event()
    other = context.Process(target=_search_elsewhere, args=(tmp_path / "run", events))
    other.start()
    assert told.wait(60)
    with pytest.raises(BlockingIOError, match=r"run/tune: another process is searching there"):
        tuning.Search(tmp_path / "run", None, {"data": "mine"}, [].append)
    go.set()
    other.join(60)
    assert other.exitcode == 0
    with closing(tuning.Search(tmp_path / "run", None, {"data": "mine"}, [].append)) as search:
        (trial,) = search.study.trials
        assert (trial.state.name, trial.value) == ("COMPLETE", 0.5)


def test_a_study_that_is_refused_is_not_held(tmp_path):
    pytest.importorskip("optuna")
    from igcv3det.tasks.detect import tuning

    for data, message in (("mine", None), ("yours", "another data"), ("mine", None)):
        if message:
            with pytest.raises(ValueError, match=message):
                tuning.Search(tmp_path / "run", None, {"data": data}, [].append)
        else:
            tuning.Search(tmp_path / "run", None, {"data": data}, [].append).close()


def test_a_second_call_is_one_line(call, tmp_path, capsys):
    pytest.importorskip("optuna")
    from igcv3det.tasks.detect.study import lock_folder

    with lock_folder(tmp_path / "run" / "tune"):
        assert main([*call, "--tune", "2"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "run/tune: another process is searching there: wait for its end" in line


def test_wrong_calls(tmp_path, capsys):
    assert main(["data/mine", "--storage", "sqlite:///a.db"]) == 2
    assert "--storage goes with --tune" in capsys.readouterr().err
    assert main(["data/mine", "--tune", "0"]) == 2


@pytest.fixture
def call(tmp_path):
    weights = save_tiny_detector(tmp_path / "tiny.safetensors")
    folder = write_layout(tmp_path, "voc").folder
    options = ["--model.detector.image_size", "64", "--data.num_workers", "0"]
    options += ["--logged_images", "0", "--trainer.enable_progress_bar", "false"]
    run = tmp_path / "run"
    return [str(folder), "--weights", str(weights), "--epochs", "4", "--output", str(run), *options]


@pytest.mark.slow
def test_a_search_and_its_training(call, tmp_path, capsys):
    optuna = pytest.importorskip("optuna")
    assert main([*call, "--tune", "2"]) == 0
    printed = capsys.readouterr().out
    assert "search      2 trials of 2 epochs, 50% of 4" in printed
    assert "lr            2e-05 to 0.0005, logarithmic, first 0.0001: five times" in printed
    assert "trial 1 (2 of 2, about 0 minutes left): lr " in printed
    run = tmp_path / "run"
    assert printed.splitlines()[-1] == str(run / "checkpoints" / "best.safetensors")
    assert (run / "tune" / "trial-001" / "metrics.csv").is_file()
    assert not list((run / "tune").rglob("*.ckpt"))
    backend = optuna.storages.journal.JournalFileBackend(str(run / "tune" / "study.log"))
    storage = optuna.storages.JournalStorage(backend)
    found = optuna.load_study(study_name="run", storage=storage)
    best = found.best_trial
    assert f"training with the values of trial {best.number}" in printed
    text = (run / "config.yaml").read_text()
    assert json.dumps(best.params["lr"])[:8] in text
    # the same call has nothing left to do, and finds its result
    assert main([*call, "--tune", "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == printed.splitlines()[-1]
    assert not (tmp_path / "run-2").exists()
    # a better trial is trained in a folder of its own, which the same call finds again
    trained = []
    for _ in range(2):
        assert main([*call, "--tune", "5"]) == 0
        trained.append(Path(capsys.readouterr().out.splitlines()[-1]).parent.parent)
    assert trained[0] == trained[1]
    assert not (tmp_path / "run-3").exists()


@pytest.mark.slow
def test_ctrl_c_ends_a_trial_and_the_same_call_resumes(call, tmp_path):
    pytest.importorskip("optuna")
    command = [sys.executable, "-m", "igcv3det", "train", *call, "--tune", "3"]
    command[command.index("--epochs") + 1] = "12"
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        for line in run.stdout:
            if line.startswith("trial 1"):
                run.send_signal(signal.SIGINT)
                break
        _, errors = run.communicate(timeout=120)
    assert run.returncode == 130
    assert "Traceback" not in errors
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0, again.stderr
    assert "1 of them done" in again.stdout
    assert again.stdout.splitlines()[-1].endswith("best.safetensors")
