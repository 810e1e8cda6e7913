import json
import logging
import re

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from synthetic import write_coco

from igcv3det.config import AugmentConfig
from igcv3det.datasets.issues import AnnotationError
from igcv3det.structures import Categories
from igcv3det.tasks.detect.datamodule import CocoDataModule

pytestmark = [
    # resumed without the callback that saved: it only gets in the way here
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    # Lightning's advice on core counts
    pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


@pytest.fixture
def root(tmp_path):
    write_coco(tmp_path, "train2017")
    write_coco(tmp_path, "val2017", seed=1)
    return tmp_path


def module(root, **options):
    return CocoDataModule(root, **({"batch_size": 2, "num_workers": 0, "image_size": 32} | options))


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_layout_and_categories(root):
    data = module(root)
    assert data.val_record.path == root / "annotations" / "instances_val2017.json"
    assert data.splits.val.images == root / "val2017"
    assert data.categories == Categories((3, 7, 90), ("red", "green", "blue"))
    assert data.num_workers == 0
    assert data.val_batch_size == data.batch_size == 2


def test_categories_need_no_images_and_no_training_file(root):
    (root / "annotations" / "instances_train2017.json").unlink()
    assert len(module(root).categories) == 3


def test_batches_of_training_and_validation(root):
    data = module(root, val_batch_size=4)
    data.setup("fit")
    train, val = list(data.train_dataloader()), list(data.val_dataloader())
    assert [len(targets) for _, targets in train] == [2, 2, 2]
    assert [image.shape for image, _ in train] == [(2, 3, 32, 32)] * 3
    assert [target.image_id for _, targets in val for target in targets] == [
        11,
        12,
        13,
        104,
        105,
        206,
    ]


def test_workers_change_nothing(root):
    runs = []
    for num_workers in (0, 1, 2):
        batches = module(root, num_workers=num_workers, seed=3).train_dataloader()
        runs.append([batch for _ in range(2) for batch in batches])
    for batch, *others in zip(*runs, strict=True):
        for other in others:
            assert torch.equal(batch[0], other[0])
            for ours, theirs in zip(batch[1], other[1], strict=True):
                assert torch.equal(ours.boxes, theirs.boxes)
                assert ours.image_id == theirs.image_id
    assert not torch.equal(runs[0][0][0], runs[0][3][0])


def test_batch_is_lowered_for_tiny_sets(root, caplog):
    with caplog.at_level(logging.WARNING):
        (batch,) = module(root, batch_size=32).train_dataloader()
    assert len(batch[1]) == 6
    assert "only 6 images" in caplog.text


def test_issues_are_dropped_or_refused(root, tmp_path, caplog):
    write_coco(tmp_path / "bad", "train2017", issues=["no area", "missing file"])
    write_coco(tmp_path / "bad", "val2017")
    with caplog.at_level(logging.WARNING):
        module(tmp_path / "bad").setup("fit")
    assert "2 issues" in caplog.text
    with pytest.raises(AnnotationError, match="2 issues"):
        module(tmp_path / "bad", strict=True).setup("fit")


def test_other_categories_in_training_are_refused(root):
    path = root / "annotations" / "instances_train2017.json"
    rewrite(path, lambda content: content["categories"][0].update(name="navy"))
    with pytest.raises(AnnotationError, match="90: 'navy' and 'blue'"):
        module(root).setup("fit")


def test_validation_alone_needs_no_training_data(root):
    (root / "annotations" / "instances_train2017.json").unlink()
    data = module(root)
    data.setup("validate")
    assert len(data.val_dataloader()) == 3
    with pytest.raises(AnnotationError, match="has no split 'train'; it has val"):
        data.setup("fit")
    named = module(root, train_images="train2017")
    with pytest.raises(FileNotFoundError, match=r"instances_train2017\.json: no such"):
        named.setup("fit")


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"val_batch_size": 0}, {"num_workers": -1}])
def test_senseless_numbers_are_refused(root, options):
    with pytest.raises(ValueError, match=r"data.*>= [01]"):
        module(root, **options)


class CrashError(RuntimeError):
    pass


class SaveAtCrash(Callback):
    def __init__(self, path):
        self.path = path

    def on_exception(self, trainer, pl_module, exception):
        trainer.save_checkpoint(self.path)


class Seen(LightningModule):
    """Notes the images and pixels it is trained on."""

    def __init__(self, crash_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.crash_at = crash_at
        self.seen = []

    def training_step(self, batch, batch_idx):
        images, targets = batch
        if self.global_step == self.crash_at:
            raise CrashError
        boxes = torch.cat([target.boxes for target in targets])
        record = [target.image_id for target in targets], images.sum().item(), boxes.sum().item()
        self.seen.append(record)
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(root, callbacks=(), ckpt_path=None, crash_at=None, num_workers=0, **options):
    model = Seen(crash_at)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(own, ModelCheckpoint) for own in callbacks),
        callbacks=list(callbacks),
        num_sanity_val_steps=1,
        **options,
    )
    data = module(root, num_workers=num_workers, augment=AugmentConfig(preset="ssd"))
    try:
        trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    except CrashError:
        assert crash_at is not None
    return model.seen


# three batches an epoch: 1 and 5 are in the middle, 3 is at the end of the first epoch
@pytest.mark.parametrize("steps", [1, 3, 5])
@pytest.mark.parametrize("limit", [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 9}])
def test_a_stopped_run_resumes_at_its_step(root, tmp_path, limit, steps):
    unbroken = fit(root, **limit)
    assert len(unbroken) == 9
    save = ModelCheckpoint(tmp_path / "runs", "{step}", every_n_train_steps=1, save_top_k=-1)
    before = fit(root, [save], **(limit | {"max_steps": steps}))
    after = fit(root, ckpt_path=tmp_path / "runs" / f"step={steps}.ckpt", **limit)
    assert before + after == unbroken


@pytest.mark.parametrize("step", [2, 4])
def test_a_crashed_run_resumes_with_two_workers(root, tmp_path, step):
    unbroken = fit(root, max_epochs=3)
    path = tmp_path / "last.ckpt"
    before = fit(root, [SaveAtCrash(path)], crash_at=step, num_workers=2, max_epochs=3)
    assert len(before) == step
    after = fit(root, ckpt_path=path, num_workers=2, max_epochs=3)
    assert before + after == unbroken


@pytest.mark.parametrize("limit", [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 9}])
@pytest.mark.parametrize("when", [{}, {"save_on_train_epoch_end": True}], ids=["val", "epoch"])
def test_resuming_from_the_end_of_an_epoch(root, tmp_path, limit, when):
    unbroken = fit(root, **limit)
    fit(root, [ModelCheckpoint(tmp_path / "runs", "{step}", save_top_k=-1, **when)], **limit)
    for step in (3, 6):
        after = fit(root, ckpt_path=tmp_path / "runs" / f"step={step}.ckpt", **limit)
        assert after == unbroken[step:]


def test_resuming_with_validation_inside_the_epoch_and_accumulation(root, tmp_path):
    options = {"max_epochs": 2, "val_check_interval": 2, "accumulate_grad_batches": 2}
    unbroken = fit(root, **options)
    save = ModelCheckpoint(tmp_path / "runs", "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(root, [save], **options)
    # two steps an epoch, of two batches and one
    for step, batches in [(1, 2), (2, 3), (3, 5)]:
        after = fit(root, ckpt_path=tmp_path / "runs" / f"step={step}.ckpt", **options)
        assert after == unbroken[batches:]


def test_overfitting_repeats_the_same_images(root):
    seen = fit(root, max_epochs=3, overfit_batches=1)
    assert len(seen) == 3
    assert len({tuple(ids) for ids, *_ in seen}) == 1


def test_resuming_with_another_seed_is_reported(root, tmp_path, caplog):
    save = ModelCheckpoint(tmp_path / "runs", "{step}", every_n_train_steps=1, save_top_k=-1)
    fit(root, [save], max_steps=1, max_epochs=-1)
    checkpoint = torch.load(tmp_path / "runs" / "step=1.ckpt", weights_only=True)
    state = checkpoint["CocoDataModule"]
    assert state == {"seed": 0, "batch_size": 2, "world_size": 1, "images": 6}
    data = module(root, seed=1)
    data.load_state_dict(state)
    with caplog.at_level(logging.WARNING):
        data.train_dataloader()
    assert re.search("another seed than the run was started with", caplog.text)
    caplog.clear()
    data = module(root)
    data.load_state_dict(state)
    data.train_dataloader()
    assert caplog.text == ""


def test_a_training_set_without_objects_is_refused_and_a_validation_set_is_not(root, caplog):
    for name in ("val", "train"):
        path = root / "annotations" / f"instances_{name}2017.json"
        content = json.loads(path.read_text())
        for annotation in content["annotations"]:
            annotation["iscrowd"] = 1
        path.write_text(json.dumps(content))
    data = module(root)
    data.setup("validate")
    assert "nothing to measure on" in caplog.text
    with pytest.raises(AnnotationError, match=r"train2017\.json.*not a single object is left"):
        data.setup("fit")
