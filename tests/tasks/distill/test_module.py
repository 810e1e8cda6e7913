"""What a distillation refuses before its first step."""

import dataclasses

import pytest
from distillation_networks import small_config
from distillation_runs import WHOLE_STUDENT, data, module, write_inputs
from distributed_runs import make_trainer
from torch import nn

from igcv3det.config import HeadConfig, PreprocessConfig
from igcv3det.tasks.distill.config import DistillationConfig
from igcv3det.tasks.distill.module import DistillationModule


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distillation")
    write_inputs(folder, images=5)
    return folder


def fit(folder, config, **options):
    trainer = make_trainer(folder, 1, max_steps=1, limit_val_batches=0, **options)
    trainer.fit(module(folder, config), datamodule=data(folder, batch_size=1))


def test_a_batch_of_one_image(folder):
    with pytest.raises(ValueError, match=r"a batch of one image .*batch_statistics_steps 0"):
        fit(folder, DistillationConfig())
    fit(folder, WHOLE_STUDENT)  # norms with fixed statistics need no batch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_classes": 4}, "num_classes is 4, but .*teacher.safetensors has 3"),
        (
            {"head": HeadConfig(extra_channels=(16, 16))},
            "head.activation is softmax, but .* sigmoid",
        ),
        ({"variances": (0.1, 0.1, 0.1, 0.1)}, "variances is .*0.1, 0.1.*, but .*0.2, 0.2"),
        ({"preprocess": PreprocessConfig(std=(1.0, 1.0, 1.0))}, "preprocess.std is "),
    ],
)
def test_a_student_that_means_something_else_by_its_outputs(folder, change, message):
    config = dataclasses.replace(small_config(), **change)
    with pytest.raises(ValueError, match=rf"model\.detector\.{message}"):
        DistillationModule(str(folder / "teacher.safetensors"), detector=config)


def test_heads_that_are_not_compared_may_differ(folder):
    config = dataclasses.replace(small_config(), variances=(0.1, 0.1, 0.1, 0.1))
    features = DistillationConfig(score_weight=0, offset_weight=0, copied=("stem",))
    DistillationModule(str(folder / "teacher.safetensors"), config, features)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_weights_of_another_type_than_the_teachers(folder, precision):
    with pytest.raises(ValueError, match=rf"trainer\.precision {precision}: .* bf16-mixed"):
        fit(folder, WHOLE_STUDENT, precision=precision)


def test_synchronised_norms_keep_their_statistics_too(folder):
    """Lightning replaces the norms of a run with ``trainer.sync_batchnorm``."""
    student = nn.SyncBatchNorm.convert_sync_batchnorm(module(folder, WHOLE_STUDENT))
    student.trainer = make_trainer(folder, 1)
    student.train()
    norms = [part for part in student.detector.modules() if isinstance(part, nn.SyncBatchNorm)]
    assert all(norm.training for norm in norms)
    student.on_train_batch_start(None, 0)
    student.train()
    assert len(norms) > 30
    assert not any(norm.training for norm in norms)
