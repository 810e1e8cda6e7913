"""One training step with synchronised norms, as each of two processes takes it."""

import copy
import datetime
import pickle
import sys
from pathlib import Path

import torch
from torch import distributed, nn

from igcv3det.fastpath.conv_impl import set_conv_impl
from igcv3det.fastpath.frozen_norms import replace_sequences


def step(network, images):
    """Loss and gradients by name, summed over taps as in training."""
    taps = network.forward_features(images)
    sum(tap.square().sum() for tap in taps).backward()
    return [tap.detach() for tap in taps], {n: p.grad for n, p in network.named_parameters()}


def main(folder, rank):
    """Reads ``start.pickle`` of a folder and writes what a process of two finds."""
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )
    network, shares = pickle.loads((folder / "start.pickle").read_bytes())
    found = {}
    for conv_impl in ("fast", "folded"):
        own = copy.deepcopy(network)
        set_conv_impl(own, conv_impl)
        replace_sequences(own, fast=True)  # the norms that "folded" leaves to PyTorch, on a CPU
        own = nn.SyncBatchNorm.convert_sync_batchnorm(own)  # in Lightning's order
        taps, gradients = step(own, shares[rank])
        for gradient in gradients.values():
            distributed.all_reduce(gradient)
        found[conv_impl] = taps, gradients, dict(own.state_dict())
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
