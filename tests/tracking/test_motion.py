"""The filters against a Kalman filter of matrices, as textbooks write it."""

import numpy as np
import pytest

from igcv3det.tracking.motion import Motion

BOXES = np.array([[10.0, 20, 50, 100], [0, 0, 30, 10]])


class MatrixFilter:
    """Of one coordinate with its velocity; ``size`` scales the noise."""

    def __init__(self, value, size):
        self.state = np.array([value, 0.0])
        self.covariance = np.diag([(2 * size / 20) ** 2, (10 * size / 160) ** 2])

    def predict(self, frames, size):
        step = np.array([[1, frames], [0, 1]])
        noise = frames * np.diag([(size / 20) ** 2, (size / 160) ** 2])
        self.state = step @ self.state
        self.covariance = step @ self.covariance @ step.T + noise

    def update(self, value, size):
        observe = np.array([[1.0, 0.0]])
        total = observe @ self.covariance @ observe.T + (size / 20) ** 2
        gain = self.covariance @ observe.T / total
        self.state = self.state + (gain * (value - self.state[0]))[:, 0]
        self.covariance = (np.eye(2) - gain @ observe) @ self.covariance


def centre_and_size(box):
    x0, y0, x1, y1 = box
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])


def test_it_is_a_kalman_filter():
    random = np.random.default_rng(0)
    motion = Motion.start(BOXES[:1])
    place = centre_and_size(BOXES[0])
    filters = [MatrixFilter(v, s) for v, s in zip(place, np.tile(place[2:], 2), strict=True)]
    for frames in (1, 2, 0.5, 1, 3):
        size = np.tile([filters[2].state[0], filters[3].state[0]], 2)
        for one, own in zip(filters, size, strict=True):
            one.predict(frames, own)
        motion.advance(frames)
        detected = BOXES[0] + random.normal(0, 3, 4)
        values = centre_and_size(detected)
        for one, value, own in zip(filters, values, np.tile(values[2:], 2), strict=True):
            one.update(value, own)
        motion.correct(np.array([0]), detected[None])
    np.testing.assert_allclose(motion.place[0], [one.state[0] for one in filters])
    np.testing.assert_allclose(motion.velocity[0], [one.state[1] for one in filters])
    covariances = np.array([one.covariance for one in filters])
    np.testing.assert_allclose(motion.variance[0], covariances[:, 0, 0])
    np.testing.assert_allclose(motion.covariance[0], covariances[:, 0, 1], atol=1e-12)
    np.testing.assert_allclose(motion.velocity_variance[0], covariances[:, 1, 1])


def test_it_learns_a_velocity_and_moves_on():
    motion = Motion.start(BOXES)
    shift = np.array([[3.0, -2, 3, -2], [0, 1, 0, 1]])
    for frame in range(1, 40):
        motion.advance(1)
        motion.correct(np.arange(2), BOXES + frame * shift)
    motion.advance(5)
    np.testing.assert_allclose(motion.boxes, BOXES + 44 * shift, atol=0.6)


def test_a_box_keeps_an_extent():
    motion = Motion.start(BOXES)
    motion.velocity[:] = -50
    motion.advance(3)
    assert (motion.place[:, 2:] == 1).all()


@pytest.mark.parametrize("rows", [np.array([1]), np.array([False, True])])
def test_select_and_extend(rows):
    motion = Motion.start(BOXES)
    both = motion.select(rows).extend(motion)
    np.testing.assert_array_equal(both.boxes, BOXES[[1, 0, 1]])
