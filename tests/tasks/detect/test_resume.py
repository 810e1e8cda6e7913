"""A run that was killed and resumed ends with bitwise the same weights as an uninterrupted one."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from killed_runs import KillError, assert_same, killed_at

from igcv3det.engine.checkpoints import LastCheckpoint
from igcv3det.shapes.dataset import write_shapes
from igcv3det.tasks.detect.module import DetectionModule
from igcv3det.tasks.detect.train import DetectionCLI
from tools.train_det import main

ROOT = Path(__file__).parents[3]
CONFIG = """
model:
  detector:
    num_classes: 6
    image_size: 64
    backbone: {name: mobilenetv2, width: 0.1}
    head: {extra_channels: [16, 16]}
  optim: {lr: 0.05, lr_batch_size: null, warmup_steps: 2, ema_decay: 0.9}
data: {batch_size: 4, num_workers: 0}
trainer:
  accelerator: cpu
  max_epochs: 3
  log_every_n_steps: 1
  enable_progress_bar: false
save_every_n_steps: 2
logged_images: 0
"""
STEPS = 9  # three epochs of three batches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    write_shapes(folder / "data", train=12, val=3, image_size=64)
    (folder / "tiny.yaml").write_text(CONFIG)
    return folder


def arguments(folder, name, *options):
    return [
        *("--config", str(folder / "tiny.yaml")),
        *("--data.root", str(folder / "data")),
        *("--trainer.default_root_dir", str(folder / name)),
        *options,
    ]


def last_of(run):
    return run / "checkpoints" / "last.ckpt"


def assert_same_run(one, other):
    parts = [torch.load(last_of(run), weights_only=True) for run in (one, other)]
    for key in ("state_dict", "training_weights", "optimizer_states", "lr_schedulers", "epoch"):
        assert_same(parts[0][key], parts[1][key], key)
    assert_same(*(part["callbacks"]["AveragedWeights"] for part in parts), "average")
    assert (one / "metrics.csv").read_text() == (other / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def unbroken(folder):
    assert main(arguments(folder, "unbroken")) == 0
    assert torch.load(last_of(folder / "unbroken"), weights_only=True)["global_step"] == STEPS
    return folder / "unbroken"


def killed_and_resumed(folder, name, step, *options):
    with killed_at(DetectionModule, step):
        main(arguments(folder, name, *options))
    last = last_of(folder / name)
    assert torch.load(last, weights_only=True)["global_step"] <= step
    assert main(arguments(folder, name, "--ckpt_path", str(last), *options)) == 0
    return folder / name


@pytest.mark.parametrize("step", [3, 5])  # from the end of an epoch, from within one
def test_killed_and_resumed(folder, unbroken, step):
    resumed = killed_and_resumed(folder, f"killed-{step}", step)
    assert_same_run(unbroken, resumed)
    assert not (folder / f"killed-{step}-2").exists()


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 6, 7])
def test_killed_anywhere(folder, unbroken, step):
    assert_same_run(unbroken, killed_and_resumed(folder, f"any-{step}", step))


OPTIONS = {
    "steps": ("--trainer.max_epochs", "null", "--trainer.max_steps", "8"),
    "both": ("--trainer.max_epochs", "3", "--trainer.max_steps", "8"),
    "workers": ("--data.num_workers", "2"),
    "adamw": ("--model.optim.optimizer", "adamw", "--trainer.gradient_clip_val", "1"),
    "bf16": ("--trainer.precision", "bf16-mixed"),
    "within": ("--trainer.val_check_interval", "2"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("steps", 3),
        ("steps", 5),
        ("both", 6),
        ("workers", 5),
        ("adamw", 5),
        ("bf16", 5),
        ("within", 3),
        ("within", 5),
    ],
)
def test_killed_with_options(folder, name, step):
    options = OPTIONS[name]
    whole = folder / f"{name}-{step}-unbroken"
    assert main(arguments(folder, whole.name, *options)) == 0
    resumed = killed_and_resumed(folder, f"{name}-{step}-killed", step, *options)
    assert_same_run(whole, resumed)


@pytest.mark.slow
def test_accumulated_batches(folder):
    options = ("--trainer.accumulate_grad_batches", "2", "--save_every_n_steps", "1")
    assert main(arguments(folder, "accumulated", *options)) == 0
    resumed = killed_and_resumed(folder, "accumulated-killed", 3, *options)
    assert_same_run(folder / "accumulated", resumed)


def test_rows_up_to_the_checkpoint_are_kept(folder, unbroken, monkeypatch):
    """A kill right after last.ckpt is written, before Lightning logs that step."""
    save = LastCheckpoint._save

    def deadly(self, trainer):
        save(self, trainer)
        if trainer.global_step == 2:
            raise KillError

    with monkeypatch.context() as patched:
        patched.setattr(LastCheckpoint, "_save", deadly)
        run = DetectionCLI(arguments(folder, "row"))
        with pytest.raises(KillError):
            run.fit()
    assert main(arguments(folder, "row", "--ckpt_path", str(last_of(folder / "row")))) == 0
    assert_same_run(unbroken, folder / "row")


def signal_in(monkeypatch, method, signum, step):
    """Sends a signal to this process at the beginning of a method, once a step is done."""
    original, sent = getattr(DetectionModule, method), []

    def signalling(self, batch, batch_idx):
        if self.global_step >= step and not self.trainer.sanity_checking and not sent:
            sent.append(True)
            os.kill(os.getpid(), signum)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectionModule, method, signalling)


@pytest.mark.parametrize(
    ("method", "signum", "step", "saved"),
    [
        ("training_step", signal.SIGINT, 0, 1),  # in the first epoch, before the first save
        pytest.param("training_step", signal.SIGTERM, 3, 4, marks=pytest.mark.slow),
        ("training_step", signal.SIGTERM, 5, 6),  # the last step of an epoch
        ("validation_step", signal.SIGINT, 3, 3),
    ],
)
def test_a_signal_saves_and_names_the_command_that_resumes(
    folder, unbroken, monkeypatch, capsys, method, signum, step, saved
):
    name = f"{method}-{step}"
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patched:
        signal_in(patched, method, signum, step)
        assert main(arguments(folder, name)) == 128 + signum
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    last = last_of(folder / name)
    assert torch.load(last, weights_only=True)["global_step"] == saved
    *_, line, command = capsys.readouterr().err.splitlines()
    assert f"after step {saved}, which is saved" in line
    assert main(shlex.split(command)[2:]) == 0
    assert_same_run(unbroken, folder / name)


@pytest.mark.parametrize(
    ("script", "start"),
    [
        ("tools/train_det.py", "python tools/train_det.py"),
        ("/usr/bin/igcv3det", "igcv3det train"),
        ("/site-packages/igcv3det/__main__.py", "python -m igcv3det train"),
    ],
)
def test_the_command_that_resumes_is_the_one_that_was_called(monkeypatch, script, start):
    monkeypatch.setattr(sys, "argv", [script])
    run = SimpleNamespace(run_folder=Path("run a"), program=DetectionCLI.program)
    command = DetectionCLI._resume_command(run, Path("run a/checkpoints/last.ckpt"))
    options = "--config 'run a/config.yaml' --ckpt_path 'run a/checkpoints/last.ckpt'"
    assert command == f"{start} {options}"


def test_a_signal_before_training_saves_nothing(folder, monkeypatch, capsys):
    signal_in(monkeypatch, "validation_step", signal.SIGTERM, 0)
    monkeypatch.setattr(DetectionModule, "on_fit_start", lambda self: os.kill(os.getpid(), 15))
    assert main(arguments(folder, "early")) == 143
    assert "SIGTERM, before anything was saved" in capsys.readouterr().err


def test_repeated_run_is_the_same(folder, unbroken):
    assert main(arguments(folder, "again")) == 0
    assert_same_run(unbroken, folder / "again")


def test_a_finished_run_is_not_continued(folder):
    options = ("--trainer.max_steps", "2")
    assert main(arguments(folder, "over", *options)) == 0
    before = torch.load(last_of(folder / "over"), weights_only=True)
    last = str(last_of(folder / "over"))
    assert main(arguments(folder, "over", "--ckpt_path", last, *options)) == 0
    after = torch.load(last_of(folder / "over"), weights_only=True)
    assert_same(before["training_weights"], after["training_weights"])


def test_the_configuration_of_a_resumed_run_starts_another_one(folder):
    options = ("--trainer.max_steps", "2")
    assert main(arguments(folder, "first", *options)) == 0
    last = last_of(folder / "first")
    assert (
        main(arguments(folder, "first", "--ckpt_path", str(last), "--trainer.max_steps", "3")) == 0
    )
    before = last.read_bytes()
    assert main(["--config", str(folder / "first" / "config.yaml")]) == 0
    assert last.read_bytes() == before
    assert last_of(folder / "first-2").is_file()


@pytest.mark.slow
def test_really_killed(folder):
    """SIGKILL at some moment after a checkpoint; what counts is the end."""
    options = ("--trainer.max_epochs", "20")
    command = [sys.executable, str(ROOT / "tools" / "train_det.py")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(
        [*command, *arguments(folder, "really", *options)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last = last_of(folder / "really")
    patience = time.monotonic() + 120
    while not last.exists() and time.monotonic() < patience:
        time.sleep(0.02)
    time.sleep(0.3)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL  # it had not ended by itself
    for name, more in (("really", ("--ckpt_path", str(last))), ("whole", ())):
        call = [*command, *arguments(folder, name, *options, *more)]
        subprocess.run(call, env=environment, check=True, capture_output=True)
    assert_same_run(folder / "whole", folder / "really")


@pytest.mark.parametrize(
    ("first", "stop", "second", "epochs"),
    [
        (2, 6, 3, {1: 4}),  # after an epoch of six batches epochs of four
        (4, 3, 2, {1: 6}),
        (2, 4, 4, {0: 1, 1: 3}),  # 4 of 6 batches are 2 of 3
        (4, 2, 2, {0: 2, 1: 6}),
    ],
)
def test_other_batches_complete_the_epoch(folder, monkeypatch, first, stop, second, epochs):
    name, seen, validated = f"batches-{first}-{stop}-{second}", [], []
    step, end = DetectionModule.training_step, DetectionModule.on_validation_epoch_end

    def training_step(self, batch, batch_idx):
        if self.global_step == stop and not self.trainer.ckpt_path:
            raise KeyboardInterrupt
        seen.append((self.trainer.current_epoch, [target.image_id for target in batch[1]]))
        return step(self, batch, batch_idx)

    def on_validation_epoch_end(self):
        validated.append(self.trainer.current_epoch)
        return end(self)

    monkeypatch.setattr(DetectionModule, "training_step", training_step)
    monkeypatch.setattr(DetectionModule, "on_validation_epoch_end", on_validation_epoch_end)
    options = ("--trainer.num_sanity_val_steps", "0", "--trainer.max_epochs", "2")
    main(arguments(folder, name, *options, "--data.batch_size", str(first)))
    before = [ids for epoch, ids in seen if epoch == 0]
    seen.clear()
    validated.clear()
    again = ("--data.batch_size", str(second), "--ckpt_path", str(last_of(folder / name)))
    assert main(arguments(folder, name, *options, *again)) == 0
    assert {e: sum(epoch == e for epoch, _ in seen) for e in epochs} == epochs
    assert validated == list(epochs)
    if 0 in epochs:  # no image twice in an epoch
        batches = before + [ids for epoch, ids in seen if epoch == 0]
        assert sorted(number for ids in batches for number in ids) == list(range(1, 13))
