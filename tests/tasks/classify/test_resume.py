"""A killed and resumed classification run ends with bitwise the same weights."""

import pytest
import torch
import yaml
from killed_runs import assert_same, killed_at
from tiny_classification import SETTINGS

from igcv3det.tasks.classify.module import ClassificationModule
from tools.train_cls import main


def start(folder, name, *options):
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(SETTINGS))
    return main(
        [
            *("--config", str(config), "--save_every_n_steps", "2"),
            *("--trainer.default_root_dir", str(folder / name)),
            *options,
        ]
    )


def last(folder, name):
    return folder / name / "checkpoints" / "last.ckpt"


OPTIONS = {
    "plain": (),
    "ema, dropout, bf16": (
        *("--model.optim.ema_decay", "0.9", "--trainer.precision", "bf16-mixed"),
        *("--model.classifier.backbone.dropout", "0.5"),
        *("--model.execution", "fast", "--model.channels_last", "true"),
    ),
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_killed_and_resumed(tmp_path, options):
    assert start(tmp_path, "whole", *options) == 0  # six steps, three an epoch
    with killed_at(ClassificationModule, 5):
        start(tmp_path, "cut", *options)
    assert torch.load(last(tmp_path, "cut"), weights_only=True)["global_step"] == 4
    assert start(tmp_path, "cut", *options, "--ckpt_path", str(last(tmp_path, "cut"))) == 0
    one, other = (torch.load(last(tmp_path, n), weights_only=True) for n in ("whole", "cut"))
    for key in ("state_dict", "training_weights", "optimizer_states", "lr_schedulers", "epoch"):
        assert_same(one.get(key), other.get(key), key)
    tables = [(tmp_path / name / "metrics.csv").read_text() for name in ("whole", "cut")]
    assert tables[0] == tables[1]


def test_resuming_with_another_network_is_refused(tmp_path, capsys):
    assert start(tmp_path, "one", "--trainer.max_epochs", "1") == 0
    options = ("--ckpt_path", str(last(tmp_path, "one")), "--model.classifier.backbone.p2", "true")
    assert start(tmp_path, "one", *options) == 1
    assert "holds another network" in capsys.readouterr().err


@pytest.mark.slow
def test_it_learns_synthetic_shapes(tmp_path):
    options = ("--data.drawn", "[1800, 300]", "--data.batch_size", "32", "--data.augment.pad", "2")
    network = ("--model.classifier.image_size", "32", "--model.classifier.backbone.width", "0.25")
    optim = ("--model.optim.optimizer", "adamw", "--model.optim.lr", "0.004")
    assert start(tmp_path, "learn", *options, *network, *optim, "--trainer.max_epochs", "8") == 0
    checkpoint = torch.load(last(tmp_path, "learn"), weights_only=True)
    (best,) = (
        float(state["best_model_score"])
        for name, state in checkpoint["callbacks"].items()
        if name.startswith("ModelCheckpoint")
    )
    assert best > 0.5  # 1/6 by chance
