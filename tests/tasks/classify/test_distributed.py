"""Two processes train and measure a classifier as one with batches twice as large does."""

import pytest
import torch
from classification_runs import run_as_one_of_two, train
from processes import run_processes
from torch.testing import assert_close


def test_gradients_and_figures_are_those_of_one_process(tmp_path):
    (tmp_path / "two").mkdir()
    run_processes(run_as_one_of_two, tmp_path / "two")
    gradients, figures = train(tmp_path, 1)
    assert len(gradients) == 3
    assert 0 < figures["val/top5"] < 1
    for rank in range(2):
        found, found_figures = torch.load(tmp_path / "two" / f"{rank}.pt")
        assert_close(found, gradients, rtol=1e-3, atol=1e-5)
        assert found_figures == pytest.approx(figures, rel=1e-4)
