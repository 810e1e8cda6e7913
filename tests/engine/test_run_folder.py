from concurrent.futures import ThreadPoolExecutor

import pytest
from pytorch_lightning.utilities import rank_zero_only

from igcv3det.engine.run_folder import MetricsFile, choose_run_folder, drop_if_empty


def filled(folder):
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    return folder


def test_free_or_empty_folder_is_taken(tmp_path):
    assert choose_run_folder(tmp_path / "new" / "run") == tmp_path / "new" / "run"
    (tmp_path / "run").mkdir()
    assert choose_run_folder(tmp_path / "run") == tmp_path / "run"


def test_runs_that_start_together_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(choose_run_folder, [tmp_path / "run"] * 8))
    assert sorted(folder.name for folder in folders) == [
        "run",
        *(f"run-{number}" for number in range(2, 9)),
    ]


def test_folder_of_a_run_that_wrote_nothing_is_free_again(tmp_path):
    drop_if_empty(choose_run_folder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    filled(tmp_path / "other")
    drop_if_empty(tmp_path / "other")
    assert (tmp_path / "other" / "checkpoints" / "last.ckpt").exists()


def test_other_processes_of_a_run_make_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    assert choose_run_folder(tmp_path / "run") == tmp_path / "run"
    assert not (tmp_path / "run").exists()


def test_earlier_runs_are_not_touched(tmp_path):
    filled(tmp_path / "run")
    assert choose_run_folder(tmp_path / "run") == tmp_path / "run-2"
    assert choose_run_folder(tmp_path / "run") == tmp_path / "run-3"


@pytest.mark.parametrize("name", ["run", "run-2"])
def test_resumed_run_stays_in_its_folder(tmp_path, name):
    filled(tmp_path / "run")
    folder = filled(tmp_path / name) if name != "run" else tmp_path / name
    last = folder / "checkpoints" / "last.ckpt"
    assert choose_run_folder(tmp_path / "run", last) == folder


@pytest.mark.parametrize("name", ["other", "run-b", "running"])
def test_checkpoint_of_another_run_starts_a_new_folder(tmp_path, name):
    filled(tmp_path / "run")
    last = filled(tmp_path / name) / "checkpoints" / "last.ckpt"
    assert choose_run_folder(tmp_path / "run", last) == tmp_path / "run-2"


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    filled(tmp_path / "runs" / "a")
    last = tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt"
    wanted = (tmp_path / "runs" / "a").relative_to(tmp_path)
    assert choose_run_folder(wanted, last.relative_to(tmp_path)) == wanted


def test_metrics_of_a_step_share_a_row(tmp_path):
    table = MetricsFile(tmp_path)
    table.log_metrics({"epoch": 0, "train/loss": 2.5}, step=9)
    table.save()
    table.log_metrics({"epoch": 0, "val/AP": 0.125}, step=9)
    table.log_metrics({"epoch": 1, "train/loss": float("nan")}, step=19)
    table.finalize("success")
    assert table.path.read_text().splitlines() == [
        "step,epoch,train/loss,val/AP",
        "9,0,2.5,0.125",
        "19,1,nan,",
    ]


def test_resumed_table_drops_the_rows_after_its_checkpoint(tmp_path):
    before = MetricsFile(tmp_path)
    for step in (9, 19, 29):
        before.log_metrics({"train/loss": step}, step=step)
    before.save()
    after = MetricsFile(tmp_path)
    after.resume(20)
    after.log_metrics({"train/loss": 1.0}, step=29)
    after.save()
    assert after.path.read_text().splitlines() == [
        "step,epoch,train/loss",
        "9,,9",
        "19,,19",
        "29,,1",
    ]


def test_nothing_logged_leaves_no_file(tmp_path):
    table = MetricsFile(tmp_path / "run")
    table.resume(5)
    table.finalize("success")
    assert not table.path.exists()
