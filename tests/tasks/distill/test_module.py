"""What a distillation refuses before its first step."""

import pytest
from distillation_runs import WHOLE_STUDENT, data, module, write_inputs
from distributed_runs import make_trainer

from igcv3det.tasks.distill.config import DistillationConfig


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


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_weights_of_another_type_than_the_teachers(folder, precision):
    with pytest.raises(ValueError, match=rf"trainer\.precision {precision}: .* bf16-mixed"):
        fit(folder, WHOLE_STUDENT, precision=precision)
