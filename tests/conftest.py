import os

# Before albumentations is imported anywhere: it would ask the network for a newer version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import random
from pathlib import Path

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


@pytest.fixture(scope="session")
def real_data():
    """The folder of the converted model's source and of real images; skips where it is absent."""
    place = os.environ.get("IGCV3DET_DATA")
    if not place:
        pytest.skip("IGCV3DET_DATA names no folder")
    for part in ("tf_ssdlite_mobilenet_v2_coco", "coco_subset"):
        if not (Path(place) / part).is_dir():
            pytest.skip(f"{place} has no {part}")
    return Path(place)
