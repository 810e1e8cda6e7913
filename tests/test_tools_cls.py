"""Training and evaluating classifiers as a user does."""

import csv
import json

import pytest
import yaml
from image_folders import CLASSES, write_folder, zip_folder
from tiny_classification import SETTINGS

from igcv3det.tasks.classify.checkpoint import load_classifier
from tools import eval_cls, train_cls


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "set", per_class=6, size=(16, 16))


@pytest.fixture
def call(folder, tmp_path):
    config = tmp_path / "tiny.yaml"
    content = {**SETTINGS, "data": {"batch_size": 6, "augment": {"pad": 1}}}
    config.write_text(yaml.safe_dump(content))

    def call(*options):
        return train_cls.main(
            [
                *("--config", str(config), "--data.root", str(folder)),
                *("--data.cache", str(tmp_path / "cache"), "--model.classifier.num_classes", "3"),
                *("--trainer.default_root_dir", str(tmp_path / "run")),
                *options,
            ]
        )

    return call


def one_line(capsys, command="train-cls"):
    (line,) = [x for x in capsys.readouterr().err.splitlines() if f"{command}: " in x]
    return line


def test_run_folder(call, tmp_path, capsys):
    run = tmp_path / "run"
    assert call() == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "checkpoints/best.safetensors")
    assert {path.name for path in run.iterdir()} == {"config.yaml", "metrics.csv", "checkpoints"}
    files = {path.name for path in (run / "checkpoints").iterdir()}
    assert files == {"best.ckpt", "best.safetensors", "last.ckpt"}
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert float(rows[0]["train/loss"]) > 0
    assert [bool(row["val/top1"]) for row in rows] == [False, False, True] * 2
    for checkpoint in (run / "checkpoints").iterdir():
        assert load_classifier(checkpoint).names == CLASSES


def test_folder_and_zip_give_the_same_evaluation(call, folder, tmp_path, capsys):
    assert call() == 0
    figures = []
    for data in (folder, zip_folder(folder, tmp_path / "set.zip")):
        output = tmp_path / "out" / f"{data.suffix[1:]}.json"
        status = eval_cls.main(
            [
                *("--checkpoint", str(tmp_path / "run/checkpoints/last.ckpt")),
                *("--data", str(data), "--cache", str(tmp_path / "cache")),
                *("--output", str(output)),
            ]
        )
        assert status == 0
        assert output.with_suffix(".png").stat().st_size > 1000
        figures.append(json.loads(output.read_text()))
    assert figures[0] == figures[1]
    assert figures[0]["images"] == 18
    assert list(figures[0]["per_class"]) == list(CLASSES)
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert figures[0]["top1"] == pytest.approx(float(last["val/top1"]), abs=1e-5)
    assert figures[0]["top5"] == 1.0
    assert "top-1" in capsys.readouterr().out


def test_saved_configuration_repeats_the_run(call, tmp_path):
    assert call("--seed_everything", "5", "--trainer.max_epochs", "1") == 0
    saved = ["--config", str(tmp_path / "run/config.yaml")]
    again = tmp_path / "again"
    assert train_cls.main([*saved, "--trainer.default_root_dir", str(again)]) == 0
    assert (again / "metrics.csv").read_text() == (tmp_path / "run/metrics.csv").read_text()


def test_starting_from_trained_weights(call, tmp_path):
    assert call("--trainer.max_epochs", "1") == 0
    weights = str(tmp_path / "run/checkpoints/best.safetensors")
    assert call("--model.weights", weights, "--trainer.max_epochs", "1") == 0


def test_images_decoded_from_files(call, tmp_path):
    assert call("--data.in_memory", "false", "--data.num_workers", "0") == 0
    assert not (tmp_path / "cache").exists()


def test_igcv2_options(call, tmp_path):
    network = ("channels", "16"), ("blocks", "1"), ("branch", "4"), ("layers", "2")
    options = [f"--model.classifier.igcv2.{key}={value}" for key, value in network]
    options += ["--model.classifier.backbone.width=1.0", "--trainer.max_epochs=1"]
    options += ["--model.classifier.backbone.repeats=null"]
    assert call(*options) == 1  # four times four channels do not reach 32
    options[3] = "--model.classifier.igcv2.layers=null"
    assert call(*options) == 0
    loaded = load_classifier(tmp_path / "run/checkpoints/best.ckpt")
    assert loaded.config.igcv2.channels == 16


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--model.optim.speed", "1"], 2, "model.optim.speed"),
        (["--model.schedule.factor", "2"], 2, "schedule.factor must be in (0, 1], got 2"),
        (["--data.augment.pad", "-1"], 2, "augment.pad must be >= 0"),
        (["--model.classifier.strides", "[1, 2]"], 2, "strides must be eight"),
        (["--model.classifier.num_classes", "4"], 1, "--model.classifier.num_classes 3"),
        (["--data.root", "/absent"], 1, "/absent"),
        (["--data.val_split", "valid"], 1, "no split 'valid'"),
        (["--model.label_smoothing", "1"], 2, "label_smoothing must be in [0, 1), got 1"),
        (["--model.optim.lr", "1e38"], 1, "image ids of the batch: ["),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_wrong_calls(call, capsys, options, status, message):
    assert call(*options) == status
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("absent.safetensors", None, "absent.safetensors"),
        (None, "/absent", "/absent"),
        ("other", None, "has 3 classes ['cat', 'dog', 'newt'], the classifier 6"),
    ],
)
def test_eval_errors(folder, tmp_path, capsys, model, data, message):
    config = tmp_path / "m.yaml"
    classes = 6 if model == "other" else 3
    classifier = {**SETTINGS["model"]["classifier"], "num_classes": classes}
    config.write_text(yaml.safe_dump({"model": {"classifier": classifier}}))
    chosen = model if model == "absent.safetensors" else str(config)
    options = ["--checkpoint", chosen, "--data", data or str(folder)]
    assert eval_cls.main([*options, "--cache", str(tmp_path / "cache")]) == 1
    assert message in one_line(capsys, "eval-cls")


def test_help(capsys):
    assert train_cls.main(["--help"]) == 0
    assert "--ckpt_path" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        eval_cls.main(["--checkpoint", "x"])
    assert stop.value.code == 2
