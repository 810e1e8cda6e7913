"""Fitted anchors against arithmetic by hand."""

import numpy as np
import pytest

from igcv3det.detection.anchor_fit import fit_shapes

OWN = [[(0.1, 0.1)], [(0.4, 0.4), (0.8, 0.4)]]


def test_clusters_become_their_geometric_means():
    small = [[0.05, 0.1], [0.2, 0.1]] * 2  # geometric mean 0.1, 0.1
    large = [[0.3, 0.45]] * 4
    fitted = fit_shapes(np.array(small + large), np.ones(8), OWN, 2.0)
    assert fitted == [[(0.1, 0.1)], [(0.3, 0.45), (0.8, 0.4)]]  # the last has no box of its own


def test_weights_count():
    sides, weights = np.array([[0.1, 0.1]] * 3 + [[0.2, 0.2]]), np.array([1.0, 1, 1, 3])
    ((shape,),) = fit_shapes(sides, weights, [[(0.12, 0.12)]], 10.0)
    np.testing.assert_allclose(shape, np.sqrt(0.1 * 0.2), atol=1e-4)


@pytest.mark.parametrize(("bound", "side"), [(1.5, 0.15), (3, 0.3), (10, 0.9)])
def test_changes_are_bounded(bound, side):
    fitted = fit_shapes(np.full((9, 2), 0.9), np.ones(9), [[(0.1, 0.1)]], bound)
    np.testing.assert_allclose(fitted[0][0], side, atol=1e-4)


def test_no_anchor_is_larger_than_the_image():
    assert fit_shapes(np.full((9, 2), 0.9), np.ones(9), [[(1.2, 0.8)]], 1.1) == [[(1.0, 0.88)]]


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes_change_nothing(count):
    assert fit_shapes(np.full((count, 2), 0.3), np.ones(count), OWN, 2.0) == OWN
