"""The command line of training: what follows from weights and data, what a run leaves, errors."""

import dataclasses

import pytest
import tiny
import torch
import yaml
from pytorch_lightning.loggers import CSVLogger

from igcv3det import load_detector, save_detector
from igcv3det.checkpoint import read_config
from igcv3det.config import AnchorConfig, BackboneConfig, BlockConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector
from igcv3det.shapes.dataset import CATEGORIES, write_shapes
from igcv3det.tasks.detect.train import DetectionCLI

TRAINED = dataclasses.replace(
    tiny.DETECTOR,
    padding="same",
    num_classes=2,
    backbone=dataclasses.replace(tiny.DETECTOR.backbone, norm_eps=1e-3),
    head=HeadConfig(extra_channels=(16, 16), activation="sigmoid"),
    anchors=AnchorConfig(layout="tensorflow"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    write_shapes(folder / "data", train=8, val=3, image_size=64)
    torch.manual_seed(7)  # not the seed of the runs
    save_detector(build_detector(TRAINED, tiny.CATEGORIES), folder / "trained.safetensors")
    return folder


@pytest.fixture
def arguments(folder, tmp_path):
    def arguments(*options, weights=True):
        return [
            *("--data.root", str(folder / "data"), "--data.batch_size", "4"),
            *(("--model.weights", str(folder / "trained.safetensors")) if weights else ()),
            *("--data.num_workers", "0", "--logged_images", "0", "--trainer.accelerator", "cpu"),
            *("--trainer.default_root_dir", str(tmp_path / "run"), "--trainer.max_epochs", "1"),
            *("--trainer.enable_progress_bar", "false", "--trainer.num_sanity_val_steps", "0"),
            *options,
        ]

    return arguments


def saved_config(run):
    return yaml.safe_load((run / "config.yaml").read_text())


def test_a_run_of_listed_blocks_from_a_file_and_from_its_own_configuration(arguments, tmp_path):
    small = BackboneConfig(name="igcv3", blocks=_blocks(), stem_channels=8, last_channels=32)
    config = dataclasses.replace(TRAINED, num_classes=len(CATEGORIES), backbone=small)
    own = {"model": {"detector": to_plain(dataclasses.asdict(config))}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    run = tmp_path / "run"
    call = arguments("--config", str(tmp_path / "own.yaml"), weights=False)
    DetectionCLI(call).fit()
    assert load_detector(run / "checkpoints/best.safetensors").config == config
    assert read_config(run / "config.yaml") == config
    saved = ["--config", str(run / "config.yaml"), "--trainer.max_epochs", "2"]
    DetectionCLI([*saved, "--ckpt_path", str(run / "checkpoints/last.ckpt")]).fit()
    assert load_detector(run / "checkpoints/best.safetensors").config == config


def _blocks():
    channels = [8, 8, 8, 16, 16, 16, 16]
    own = [BlockConfig(stage, size, hidden=16) for stage, size in enumerate(channels, 1)]
    return (*own[:3], dataclasses.replace(own[3], groups=(2, 2), super_channels=4), *own[4:])


def to_plain(value):
    """Tuples as lists, which YAML has."""
    if isinstance(value, dict):
        return {key: to_plain(inner) for key, inner in value.items()}
    return [to_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def test_a_run_from_weights_has_their_detector(arguments, tmp_path):
    DetectionCLI(arguments("--model.optim.optimizer", "adamw")).fit()
    expected = dataclasses.replace(TRAINED, num_classes=len(CATEGORIES))
    assert load_detector(tmp_path / "run/checkpoints/best.safetensors").config == expected
    # the saved configuration is complete: it needs neither the weights nor their file
    saved = saved_config(tmp_path / "run")
    saved["model"]["weights"] = "gone.safetensors"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved))
    assert read_config(tmp_path / "config.yaml") == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.detector.padding", "symmetric"], "padding same, not symmetric"),
        (
            ["--model.detector.anchors.layout", "torchvision"],
            "anchors.layout tensorflow, not torch",
        ),
        (["--model.detector.backbone.norm_eps", "1e-5"], "backbone.norm_eps 0.001, not 1e-05"),
        (["--model.detector.head.activation", "softmax"], "head.activation sigmoid, not softmax"),
    ],
)
def test_what_contradicts_the_weights_is_refused(arguments, capsys, tmp_path, options, message):
    with pytest.raises(SystemExit) as stop:
        DetectionCLI(arguments(*options))
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "trained.safetensors was trained with model.detector" in error
    assert message in error
    assert not (tmp_path / "run").exists()


def test_what_weights_do_not_depend_on_may_differ(arguments):
    run = DetectionCLI(
        arguments(
            *("--model.detector.image_size", "96"),
            *("--model.detector.postprocess.iou_threshold", "0.7"),
            *("--model.detector.preprocess.resize", "tensorflow"),
        )
    )
    config = run.model.detector.config
    assert config.image_size == 96
    assert config.postprocess.iou_threshold == 0.7
    assert config.padding == "same"
    assert run.datamodule.preprocess.image_size == 96


def test_random_init_takes_the_description_only(arguments, folder):
    detector = DetectionCLI(arguments("--model.random_init", "true")).model.detector
    assert detector.config == dataclasses.replace(TRAINED, num_classes=len(CATEGORIES))
    trained = load_detector(folder / "trained.safetensors")
    assert not torch.equal(
        detector.backbone.features[0][0].weight,
        trained.state_dict()["backbone.features.0.0.weight"],
    )


def test_names_of_pretrained_weights_work_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.yaml"
    path.write_text("model: {weights: igcv3-d, detector: {num_classes: 3}}")
    config = read_config(path)
    assert (config.num_classes, config.image_size, config.anchors.layout) == (3, 300, "tensorflow")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{weights: absent.safetensors}", r"a\.yaml: model\.weights absent\.safetensors: no such"),
        ("{weights: igcv3-d, detector: {padding: symmetric}}", "a.yaml: .*padding same, not symm"),
        ("{weights: igcv3-d, detector: {paddin: same}}", r"a\.yaml: model\.detector has no field"),
    ],
)
def test_a_configuration_that_does_not_fit_its_weights(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(f"model: {text}")
    with pytest.raises((ValueError, OSError), match=message):
        read_config(path)


def test_the_number_of_classes_follows_from_the_data(arguments, tmp_path):
    run = DetectionCLI(arguments())
    assert run.model.detector.config.num_classes == len(CATEGORIES)
    assert run.config.model.detector.num_classes == len(CATEGORIES)
    with pytest.raises(ValueError, match=f"is 3, but the data has {len(CATEGORIES)}"):
        DetectionCLI(arguments("--model.detector.num_classes", "3"))


def test_old_names_of_keys(arguments, tmp_path, caplog):
    path = tmp_path / "old.yaml"
    path.write_text("model: {execution: fast, keep_norm_statistics: true}\npictures: 3\n")
    run = DetectionCLI(["--config", str(path), *arguments("--pictures", "0")])
    assert run.config.model.conv_impl == "fast"
    assert run.config.model.freeze_bn_stats is True
    assert run.config.logged_images == 0
    assert run.model.freezes_bn_stats
    told = [text for text in caplog.messages if "has a new name" in text]
    assert "model.execution has a new name: model.conv_impl" in told


@pytest.mark.parametrize("logger", ["false", "CSVLogger"])
def test_the_run_folder_has_its_files_whatever_the_loggers(
    arguments, tmp_path, monkeypatch, logger
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("mine")
    options = ["--trainer.logger", logger]
    if logger != "false":
        options += ["--trainer.logger.save_dir", str(tmp_path / "logs")]
    run = DetectionCLI(arguments(*options))
    run.fit()
    assert (tmp_path / "config.yaml").read_text() == "mine"
    assert saved_config(tmp_path / "run")["trainer"]["max_epochs"] == 1
    assert (tmp_path / "run/metrics.csv").exists() == (logger != "false")
    assert any(isinstance(own, CSVLogger) for own in run.trainer.loggers) == (logger != "false")


def test_a_missing_logger_package_is_named(arguments, tmp_path):
    with pytest.raises(ValueError, match=r"(?i)wandb"):
        DetectionCLI(arguments("--trainer.logger", "WandbLogger"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--save_every_n_steps", "0"], "save_every_n_steps must be >= 1, got 0"),
        (["--logged_images", "-1"], "logged_images must be >= 0, got -1"),
        (["--seed_everything", "-1"], "seed_everything must be >= 0, got -1"),
        (["--model.optim.momentum", "-1"], r"model.optim.momentum must be in [0, 1), got -1.0"),
        (["--trainer.max_epochs", "x"], "trainer.max_epochs: expected int or null, got x"),
        (["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches must be >= 1, got 0"),
        (["--trainer.val_check_interval", "0"], "trainer.val_check_interval must be > 0, got 0"),
    ],
)
def test_wrong_calls(arguments, capsys, options, message):
    with pytest.raises(SystemExit) as stop:
        DetectionCLI(arguments(*options, weights=False))
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_what_no_run_can_be_resumed_from(arguments, folder, tmp_path):
    weights = str(folder / "trained.safetensors")
    with pytest.raises(ValueError, match=r"trained\.safetensors: holds weights, not the state"):
        DetectionCLI(arguments("--ckpt_path", weights)).fit()
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ValueError, match=r"cut\.ckpt: not a readable checkpoint"):
        DetectionCLI(arguments("--ckpt_path", str(tmp_path / "cut.ckpt"))).fit()


def test_a_batch_of_one_image(arguments):
    options = ["--data.batch_size", "1", "--model.detector.image_size", "32"]
    with pytest.raises(ValueError, match=r"a batch of one image .*--data\.batch_size 2"):
        DetectionCLI(arguments(*options)).fit()
    # norms with fixed statistics need no batch
    DetectionCLI(arguments(*options, "--model.freeze_bn_stats", "true")).fit()


@pytest.mark.parametrize("freeze", [True, False])
def test_a_resumed_run_keeps_its_frozen_norms_and_needs_no_weights(arguments, tmp_path, freeze):
    options = ["--model.freeze_bn_stats", "true", "--trainer.limit_val_batches", "0"]
    start = [] if freeze else ["--model.random_init", "true"]
    DetectionCLI(arguments(*options, *start)).fit()
    last = tmp_path / "run/checkpoints/last.ckpt"
    resume = ["--ckpt_path", str(last), "--trainer.max_epochs", "2", "--model.weights", "null"]
    run = DetectionCLI(arguments(*options, *resume, weights=False))
    assert run.model.detector.config.padding == "same"  # as the checkpoint has it
    run.fit()
    assert run.model.freezes_bn_stats == freeze
    statistics = load_detector(last).state_dict()["backbone.features.0.1.running_mean"]
    assert torch.equal(statistics, torch.zeros_like(statistics)) == freeze


def test_norms_of_a_new_map_are_not_frozen(arguments, tmp_path):
    """They have no statistics of the weights."""
    options = ["--model.freeze_bn_stats", "true", "--trainer.limit_val_batches", "0"]
    options += ["--model.detector.anchors.stride8_scale", "0.1"]

    def trained(module):
        norms = (
            m for m in module.detector.named_modules() if isinstance(m[1], torch.nn.BatchNorm2d)
        )
        return {name.partition(".")[0] for name, norm in norms if norm.training}

    run = DetectionCLI(arguments(*options))
    run.fit()
    assert trained(run.model) == {"stride8", "head"}
    last = tmp_path / "run/checkpoints/last.ckpt"
    resume = ["--ckpt_path", str(last), "--trainer.max_epochs", "2"]
    again = DetectionCLI(arguments(*options, *resume))
    again.fit()
    assert trained(again.model) == {"stride8", "head"}
    network = load_detector(last)
    means = {k: v for k, v in network.state_dict().items() if k.endswith("running_mean")}
    moved = {name.partition(".")[0] for name, value in means.items() if value.abs().max() > 0}
    assert {"stride8", "head"} <= moved


def test_defaults_are_the_papers_detector(arguments):
    detector = DetectionCLI(
        arguments("--model.detector.backbone.width", "0.25", weights=False)
    ).model.detector
    default = DetectorConfig()
    assert detector.config == dataclasses.replace(
        default,
        num_classes=len(CATEGORIES),
        backbone=dataclasses.replace(default.backbone, width=0.25),
    )


def test_the_learning_rate_is_that_of_the_batch_that_is_trained(arguments):
    """Eight images make batches of eight, whatever is asked for."""
    options = ["--data.batch_size", "80", "--model.optim.lr", "0.001"]
    run = DetectionCLI(arguments(*options, "--model.optim.lr_batch_size", "8"))
    run.fit()
    assert run.trainer.lr_scheduler_configs[0].scheduler.base_lrs[0] == pytest.approx(0.001)
