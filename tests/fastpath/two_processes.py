"""One training step with synchronised norms, as each of two processes takes it."""

import copy

import torch
from torch import distributed, nn

from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.fastpath.sync_norms import synced_batch_norm


def step(network, images):
    """Feature maps and gradients by name."""
    taps = network.forward_features(images)
    sum(tap.square().sum() for tap in taps).backward()
    return [tap.detach() for tap in taps], {n: p.grad for n, p in network.named_parameters()}


def step_as_one_of_two(rank, folder):
    """Reads ``start.pt`` beside a folder and writes what this process finds to the folder."""
    network, shares = torch.load(folder.parent / "start.pt", weights_only=False)
    # PyTorch's own refuses CPUs; the norms that are not remapped use it
    nn.SyncBatchNorm.forward = synced_batch_norm
    found = {}
    for conv_impl in ("fast", "folded"):
        own = copy.deepcopy(network)
        set_conv_impl(own, conv_impl)
        own = nn.SyncBatchNorm.convert_sync_batchnorm(own)  # in Lightning's order
        taps, gradients = step(own, shares[rank])
        for gradient in gradients.values():
            distributed.all_reduce(gradient)
        found[conv_impl] = taps, gradients, dict(own.state_dict())
    torch.save(found, folder / f"{rank}.pt")
