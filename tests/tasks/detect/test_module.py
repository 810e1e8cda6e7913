import dataclasses

import pytest
import tiny
import torch

from igcv3det import load_detector, save_detector
from igcv3det.config import DetectorConfig, LossConfig
from igcv3det.detector import build_detector
from igcv3det.engine.ema import TRAINING_WEIGHTS, AveragedWeights
from igcv3det.structures import Categories
from igcv3det.tasks.detect.module import DetectionModule


def fit(folder, module, **options):
    trainer = tiny.trainer(folder, options.pop("callbacks", ()), **options)
    trainer.fit(module, datamodule=tiny.TinyData(folder))
    return trainer


def test_number_of_classes_is_that_of_the_data():
    three = Categories((1, 2, 3), ("a", "b", "c"))
    detector = tiny.module(categories=three).detector
    assert detector.config.num_classes == 3
    assert detector.categories == three


def test_loss_that_does_not_fit_the_head():
    with pytest.raises(ValueError, match=r"focal"):
        tiny.module(loss=LossConfig(classification="focal"))


def test_defaults_are_the_paper_detector():
    module = DetectionModule()
    assert module.detector.config == DetectorConfig()


def test_logs_losses_and_the_twelve_figures(tmp_path):
    trainer = fit(tmp_path, tiny.module())
    logged = trainer.callback_metrics
    assert {"train/loss", "train/classification", "train/box", "train/lr"} <= logged.keys()
    assert len([key for key in logged if key.startswith("val/A")]) == 12
    total = logged["train/classification"] + logged["train/box"]
    torch.testing.assert_close(logged["train/loss"], total)
    assert torch.isfinite(logged["val/loss"])


def test_learns(tmp_path):
    module = tiny.module(optim=dataclasses.replace(tiny.OPTIM, lr=0.05))
    data = tiny.TinyData(tmp_path)

    def loss_now():
        images, targets = tiny.collate(data.samples)
        module.eval()
        with torch.no_grad():
            losses = module.criterion(module(images), module.detector.anchors, targets)
        module.train()
        return sum(losses.values()).item()

    before = loss_now()
    fit(tmp_path, module, max_epochs=10, limit_val_batches=0)
    assert loss_now() < 0.7 * before


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_precisions(tmp_path, precision):
    module = tiny.module()
    trainer = fit(tmp_path, module, precision=precision, max_steps=2, gradient_clip_val=1.0)
    assert trainer.global_step == 2
    assert module.losses["box"].dtype == torch.float32
    assert all(parameter.isfinite().all() for parameter in module.parameters())


def test_bfloat16_weights_have_float32_anchors_and_averages(tmp_path):
    module = tiny.module()
    anchors = module.detector.anchors.clone()
    average = AveragedWeights(0.9, "detector")
    fit(tmp_path, module, callbacks=[average], precision="bf16-true", max_steps=2)
    assert {p.dtype for p in module.detector.parameters()} == {torch.bfloat16}
    assert torch.equal(module.detector.anchors, anchors)  # dtype included
    kept = average.average.state_dict()
    assert {value.dtype for value in kept.values() if value.is_floating_point()} == {torch.float32}


def test_channels_last_gives_the_same_outputs(tmp_path):
    images = torch.randn(2, 3, tiny.SIZE, tiny.SIZE)
    plain, other = tiny.module().eval(), tiny.module(channels_last=True).eval()
    torch.testing.assert_close(other(images).logits, plain(images).logits)


@pytest.mark.parametrize(
    ("keeps", "starts", "conv_impl"),
    [
        (True, True, "reference"),
        (True, True, "fast"),
        (False, True, "reference"),
        (True, False, "reference"),
    ],
)
def test_norm_statistics_are_kept_of_weights_that_are_given(tmp_path, keeps, starts, conv_impl):
    path = tmp_path / "start.safetensors"
    save_detector(build_detector(tiny.DETECTOR), path)
    module = tiny.module(
        weights=str(path) if starts else None, freeze_bn_stats=keeps, conv_impl=conv_impl
    )
    before = {name: value.clone() for name, value in module.detector.state_dict().items()}
    # a validation after each of two epochs: modes must survive it
    trainer = fit(tmp_path, module, max_epochs=2)
    assert trainer.global_step > 1
    after = module.detector.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    norms = {name.removesuffix("running_var") for name in before if name.endswith("running_var")}
    statistics = {norm + name for norm in norms for name in ("running_mean", "running_var")}
    assert changed & statistics == (set() if keeps and starts else statistics)
    assert changed & {norm + "weight" for norm in norms}  # scales learn all the same


def test_endless_run_has_no_schedule(tmp_path):
    with pytest.raises(ValueError, match="needs an end"):
        fit(tmp_path, tiny.module(), max_epochs=-1)


def test_checkpoint_describes_itself_and_is_plain(tmp_path):
    module = tiny.module()
    trainer = fit(tmp_path, module, callbacks=[AveragedWeights(0.9, "detector")])
    trainer.save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert content["igcv3det"]["categories"]["ids"] == [1, 7]
    detector = load_detector(tmp_path / "a.ckpt")
    assert detector.categories == tiny.CATEGORIES
    # averaged for inference, raw beside it
    name = "head.classification.0.1.weight"
    averaged = content["state_dict"]["detector." + name]
    raw = content[TRAINING_WEIGHTS]["detector." + name]
    assert not torch.equal(averaged, raw)
    assert torch.equal(detector.state_dict()[name], averaged)
    assert torch.equal(module.detector.state_dict()[name], raw)


def test_validation_sees_the_averaged_weights(tmp_path):
    module = tiny.module()
    average = AveragedWeights(0.9, "detector")
    seen = []
    step = module.validation_step

    def spy(batch, batch_idx):
        if batch_idx == 0:
            seen.append(module.detector.extras.state_dict())
            seen[-1] = {name: value.clone() for name, value in seen[-1].items()}
        return step(batch, batch_idx)

    module.validation_step = spy
    fit(tmp_path, module, callbacks=[average])
    kept = average.average.state_dict()
    for name, value in seen[0].items():
        assert torch.equal(value, kept["extras." + name])


@pytest.mark.parametrize(
    ("saved", "resumed", "message"),
    [(0.9, None, "trained with averaged"), (None, 0.9, "trained without averaged")],
)
def test_resuming_keeps_to_averaging(tmp_path, saved, resumed, message):
    def run(decay, **options):
        optim = dataclasses.replace(tiny.OPTIM, ema_decay=decay)
        callbacks = [AveragedWeights(decay, "detector")] if decay else []
        trainer = tiny.trainer(tmp_path, callbacks, limit_val_batches=0)
        trainer.fit(tiny.module(optim=optim), datamodule=tiny.TinyData(tmp_path), **options)
        return trainer

    run(saved).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    with pytest.raises(ValueError, match=message):
        run(resumed, ckpt_path=tmp_path / "a.ckpt")


def test_resuming_refuses_another_detector(tmp_path):
    fit(tmp_path, tiny.module()).save_checkpoint(tmp_path / "a.ckpt", weights_only=False)
    other = tiny.module(categories=Categories((1, 7), ("cat", "cow")))
    with pytest.raises(ValueError, match=r"categories\.names\).*--model\.weights"):
        tiny.trainer(tmp_path).fit(
            other, datamodule=tiny.TinyData(tmp_path), ckpt_path=tmp_path / "a.ckpt"
        )


class TestFineTuning:
    def source(self, folder, **changes):
        detector = build_detector(dataclasses.replace(tiny.DETECTOR, num_classes=5, **changes))
        save_detector(detector, folder / "source.safetensors")
        return detector, str(folder / "source.safetensors")

    def test_same_classes_take_everything(self, tmp_path):
        source = build_detector(tiny.DETECTOR, tiny.CATEGORIES)
        save_detector(source, tmp_path / "source.safetensors")
        module = tiny.module(weights=str(tmp_path / "source.safetensors"))
        for name, value in source.state_dict().items():
            assert torch.equal(module.detector.state_dict()[name], value)

    def test_other_classes_keep_all_but_their_own_layers(self, tmp_path, caplog):
        source, path = self.source(tmp_path)
        fresh = tiny.module().detector.state_dict()
        with caplog.at_level("INFO"):
            tuned = tiny.module(weights=path).detector.state_dict()
        for name, value in source.state_dict().items():
            is_class_layer = name.startswith("head.classification") and ".1." in name
            if name.startswith("head.classification") and tuned[name].shape != value.shape:
                assert is_class_layer
                assert torch.equal(tuned[name], fresh[name])
            else:
                assert torch.equal(tuned[name], value)
        assert "reinitialised for 2 of 2 classes: cat, dog" in caplog.text

    def test_other_architecture_is_refused(self, tmp_path):
        wider = dataclasses.replace(tiny.DETECTOR.backbone, width=0.5)
        _, path = self.source(tmp_path, backbone=wider)
        with pytest.raises(
            ValueError, match=r"source\.safetensors: .* backbone\.width 0\.5, not 0\.1"
        ):
            tiny.module(weights=path)

    def test_one_start_only(self):
        with pytest.raises(ValueError, match="includes a backbone"):
            tiny.module(weights="a.safetensors", backbone_weights="b.pth")
