import dataclasses
from types import SimpleNamespace

import pytest
import tiny
import torch
from torch import nn

from igcv3det.config import BackboneConfig
from igcv3det.detector import build_detector
from igcv3det.engine.batch_norm import check_sync_batch_norm, freeze_batch_norms
from igcv3det.fastpath.conv_impl import set_conv_impl

IGCV3 = dataclasses.replace(tiny.DETECTOR, backbone=BackboneConfig(width=0.25, depth=0.5))


def trainer(processes, device):
    strategy = SimpleNamespace(root_device=torch.device(device))
    return SimpleNamespace(world_size=processes, strategy=strategy)


def converted(conv_impl):
    """A detector as Lightning has it with ``sync_batchnorm``: its norms are replaced."""
    torch.manual_seed(0)
    module = nn.ModuleDict({"detector": build_detector(IGCV3)})
    set_conv_impl(module, conv_impl)
    return nn.SyncBatchNorm.convert_sync_batchnorm(module)["detector"]


@pytest.mark.parametrize("conv_impl", ["reference", "fast", "folded"])
def test_every_implementation_trains_with_shared_statistics(conv_impl):
    images = torch.randn(2, 3, tiny.SIZE, tiny.SIZE)
    torch.manual_seed(0)
    expected = build_detector(IGCV3)(images).logits
    found = converted(conv_impl)(images).logits
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_frozen_norms_stay_frozen_where_they_are_shared():
    detector = converted("fast")
    before = {name: value.clone() for name, value in detector.named_buffers()}
    freeze_batch_norms(detector)
    detector(torch.randn(2, 3, tiny.SIZE, tiny.SIZE))
    for name, value in detector.named_buffers():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(("processes", "device"), [(1, "cpu"), (2, "cuda")])
def test_where_statistics_can_be_shared(processes, device):
    check_sync_batch_norm(trainer(processes, device))


def test_processes_on_cpus_are_refused():
    with pytest.raises(ValueError, match=r"needs GPUs: pass --trainer\.sync_batchnorm false"):
        check_sync_batch_norm(trainer(2, "cpu"))
