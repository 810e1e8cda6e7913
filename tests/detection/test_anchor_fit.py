"""Fitted anchors against arithmetic by hand."""

import numpy as np
import pytest

from igcv3det.detection.anchor_fit import fit_shapes

OWN = [[(0.1, 0.1)], [(0.4, 0.4), (0.8, 0.4)]]


def fit(sides, shapes=OWN, bound=2.0, weights=None, covered=None):
    sides = np.array(sides, float).reshape(-1, 2)
    weights = np.ones(len(sides)) if weights is None else np.array(weights, float)
    covered = np.zeros(len(sides), bool) if covered is None else np.array(covered, bool)
    return fit_shapes(sides, weights, covered, shapes, bound)


def test_clusters_become_their_geometric_means():
    small = [[0.05, 0.1], [0.2, 0.1]] * 2  # geometric mean 0.1, 0.1
    large = [[0.3, 0.45]] * 4
    # the last has no box of its own
    assert fit(small + large) == [[(0.1, 0.1)], [(0.3, 0.45), (0.8, 0.4)]]


def test_anchors_that_cover_most_of_their_boxes_stay():
    small, large = [[0.07, 0.07]] * 3, [[0.3, 0.45]] * 3
    covered = [False, False, True, True, True, False]
    assert fit(small + large, covered=covered) == [[(0.07, 0.07)], [(0.4, 0.4), (0.8, 0.4)]]


def test_weights_count():
    sides, weights = [[0.1, 0.1]] * 3 + [[0.2, 0.2]], [1, 1, 1, 3]
    ((shape,),) = fit(sides, [[(0.12, 0.12)]], 10.0, weights)
    np.testing.assert_allclose(shape, np.sqrt(0.1 * 0.2), atol=1e-4)


@pytest.mark.parametrize(("bound", "side"), [(1.5, 0.15), (3, 0.3), (10, 0.9)])
def test_changes_are_bounded(bound, side):
    fitted = fit([[0.9, 0.9]] * 9, [[(0.1, 0.1)]], bound)
    np.testing.assert_allclose(fitted[0][0], side, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_few_boxes_change_nothing(count):
    assert fit([[0.3, 0.3]] * count) == OWN
