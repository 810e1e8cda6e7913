import os

# Before albumentations is imported anywhere: it would ask the network for a newer version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import random

import numpy as np
import pytest
import torch

# Sums depend on how they are split among threads.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))


@pytest.fixture(autouse=True)
def seed_zero():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries under test draw from the global state)
    torch.manual_seed(0)
