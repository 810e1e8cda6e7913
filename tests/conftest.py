import os

# Before albumentations is imported anywhere: it would ask the network for a newer version.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
# Before torch, and for the programs that tests start: a test's networks are small, and to hand
# pieces of them to a second thread takes longer than to compute them. Sums depend on it too.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import random
from pathlib import Path

import numpy as np
import pytest
import torch

THREADS = int(os.environ["OMP_NUM_THREADS"])


@pytest.fixture(autouse=True)
def same_start():
    torch.set_num_threads(THREADS)  # a test before may have set others
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
