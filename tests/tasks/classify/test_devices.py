"""Training and evaluation of a classifier on a GPU: the CPU's figures."""

import pytest
import torch
from classification_runs import CLASSIFIER, train
from fake_cuda import GPUS, gpu
from torch.testing import assert_close

from igcv3det.tasks.classify.checkpoint import Classifier
from igcv3det.tasks.classify.datamodule import ClassificationDataModule
from igcv3det.tasks.classify.evaluation import evaluate
from igcv3det.tasks.classify.networks import build_network


@pytest.mark.parametrize("kind", GPUS)
def test_a_training_on_a_gpu_is_that_of_the_cpu(tmp_path, kind):
    expected = train(tmp_path, 1)
    with gpu(kind) as options:
        gradients, figures = train(tmp_path, 1, **options)
        gradients = [{name: own.cpu() for name, own in step.items()} for step in gradients]
    tolerance = 1e-4 if kind == "fake" else 0.05
    for step, other in zip(gradients, expected[0], strict=True):
        assert_close(step, other, rtol=tolerance, atol=tolerance)
    assert figures == pytest.approx(expected[1], rel=tolerance)


@pytest.mark.parametrize("kind", GPUS)
def test_an_evaluation_on_a_gpu_is_that_of_the_cpu(kind):
    torch.manual_seed(0)
    weights = build_network(CLASSIFIER).state_dict()
    data = ClassificationDataModule(source="shapes", drawn=(12, 11), batch_size=4, image_size=16)

    def evaluated(device):
        network = build_network(CLASSIFIER).eval()
        network.load_state_dict(weights)
        return evaluate(Classifier(network, CLASSIFIER, data.names), data.val_dataloader(), device)

    expected = evaluated("cpu")
    with gpu(kind):
        found = evaluated("cuda")
    assert torch.equal(found.confusion, expected.confusion)
    assert (found.top1, found.top5) == (expected.top1, expected.top5)
