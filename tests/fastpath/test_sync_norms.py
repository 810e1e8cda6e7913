"""Norms synchronised over processes: two shares of a batch against the whole batch."""

import copy

import pytest
import torch
from fastpath.two_processes import step, step_as_one_of_two
from processes import run_processes
from torch import nn
from torch.testing import assert_close

from igcv3det.config import BackboneConfig, DetectorConfig, HeadConfig
from igcv3det.detector import build_detector
from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.fastpath.deploy import deploy
from igcv3det.models.igcv3 import CIFAR_STRIDES, IGCV3

NARROW = BackboneConfig(width=0.5, depth=0.2)


def test_two_processes_compute_what_one_does(tmp_path):
    # float64, as a batch of few pixels amplifies rounding in the gradients of normalisation
    reference = IGCV3(NARROW, 0, strides=CIFAR_STRIDES).double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    torch.save((reference, (images[:3], images[3:])), tmp_path / "start.pt")
    (tmp_path / "two").mkdir()
    run_processes(step_as_one_of_two, tmp_path / "two")
    taps, gradients = step(reference, images)
    found = [torch.load(tmp_path / "two" / f"{rank}.pt") for rank in range(2)]
    for conv_impl in ("fast", "folded"):
        (one, summed, state), (other, *_) = (own[conv_impl] for own in found)
        together = [torch.cat(shares) for shares in zip(one, other, strict=True)]
        assert_close(together, taps, rtol=1e-8, atol=1e-10)
        assert_close(summed, gradients, rtol=1e-8, atol=1e-8)
        assert_close(state, dict(reference.state_dict()), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("conv_impl", ["fast", "folded"])
@pytest.mark.parametrize("frozen", [False, True])
def test_one_process_computes_what_plain_norms_do(conv_impl, frozen):
    reference = IGCV3(NARROW, 0, strides=CIFAR_STRIDES).double().train(not frozen)
    synced = copy.deepcopy(reference)
    set_conv_impl(synced, conv_impl)
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(synced)  # in Lightning's order
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    assert_close(step(synced, images), step(reference, images), rtol=1e-8, atol=1e-8)
    assert_close(dict(synced.state_dict()), dict(reference.state_dict()))


def test_deploy_folds_synchronised_norms():
    config = DetectorConfig(
        num_classes=2, image_size=64, backbone=NARROW, head=HeadConfig(extra_channels=(16,))
    )
    reference = build_detector(config).eval()
    deployed = deploy(nn.SyncBatchNorm.convert_sync_batchnorm(reference), "grouped")
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in deployed.modules())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert_close(deployed(images).logits, reference(images).logits, rtol=1e-5, atol=1e-5)
