"""The decoders of other projects' outputs, by hand on one cell each."""

import numpy as np
import pytest
import torch

from research.peer_models import (
    PEERS,
    Placed,
    centred,
    decode_fastestdet,
    decode_nanodet,
    decode_yolox,
    restored,
    stretched,
    suppress,
    top_left,
)

IMAGE = np.full((20, 40, 3), (10, 20, 30), np.uint8)  # RGB


def test_centred_keeps_the_aspect():
    placed = centred(IMAGE, 64)
    assert placed.scale == (1.6, 1.6)
    assert placed.shift == (0, 16)
    black = -np.array([103.53 / 57.375, 116.28 / 57.12, 123.675 / 58.395])
    np.testing.assert_allclose(placed.inputs[0, :, 0, 0], black, rtol=1e-5)
    np.testing.assert_allclose(placed.inputs[0, 0, 32, 32], (30 - 103.53) / 57.375, rtol=1e-5)


def test_top_left_pads_with_grey():
    placed = top_left(IMAGE, 64)
    assert placed.inputs.shape == (1, 3, 64, 64)
    assert placed.inputs[0, :, 31, 63].tolist() == [30, 20, 10]
    assert placed.inputs[0, :, 32, 0].tolist() == [114, 114, 114]


def test_stretched_fills_the_square():
    placed = stretched(IMAGE, 64)
    assert placed.scale == (1.6, 3.2)
    np.testing.assert_allclose(placed.inputs[0, :, 63, 63] * 255, [30, 20, 10], rtol=1e-6)


def test_restored_inverts_the_preprocessing():
    placed = Placed(np.zeros((1, 3, 8, 8), np.float32), (2.0, 4.0), (10.0, 20.0))
    box = restored(np.array([[12, 24, 30, 60]], np.float32), placed)
    np.testing.assert_array_equal(box, [[1, 1, 10, 10]])


def test_nanodet():
    cells = {8: 16, 16: 4, 32: 1}
    classes = [np.zeros((1, n, 80), np.float32) for n in cells.values()]
    classes[1][0, 3, 7] = 0.5  # stride 16, cell (1, 1)
    edges = [np.zeros((1, n, 32), np.float32) for n in cells.values()]
    sure = np.zeros((4, 8), np.float32)
    sure[np.arange(4), [1, 0, 0, 2]] = 100  # left 1, top 0, right 0, bottom 2 strides
    edges[1][0, 3] = sure.reshape(-1)
    boxes, scores = decode_nanodet([*classes, *edges], 32)
    assert boxes.shape == (21, 4)
    assert np.argwhere(scores).tolist() == [[19, 7]]
    np.testing.assert_allclose(boxes[19], [24 - 16, 24, 24, 24 + 32], atol=1e-4)
    # equal logits: the mean of 0..7 strides on every side
    np.testing.assert_allclose(boxes[20], [16 - 112, 16 - 112, 16 + 112, 16 + 112], atol=1e-3)


def test_yolox():
    rows = np.zeros((1, 21, 85), np.float32)  # 16 + 4 + 1 cells at 32 pixels
    rows[0, 18, :5] = [0.5, 0.25, np.log(2), 0, 0.5]  # stride 16, cell (0, 1)
    rows[0, 18, 5 + 3] = 0.5
    boxes, scores = decode_yolox([rows], 32)
    np.testing.assert_allclose(boxes[18], [8 - 16, 20 - 8, 8 + 16, 20 + 8])
    assert np.argwhere(scores).tolist() == [[18, 3]]
    assert scores[18, 3] == 0.25


def test_fastestdet():
    maps = np.zeros((1, 85, 4, 4), np.float32)
    maps[0, 0, 2, 1] = 0.5  # cell (1, 2)
    maps[0, 5 + 9, 2, 1] = 0.5
    boxes, scores = decode_fastestdet([maps], 64)
    # centre at (1/4, 2/4) of the image, sides sigmoid(0) = half of it
    np.testing.assert_allclose(boxes[9], [0, 16, 32, 48])
    assert scores[9, 9] == 0.25


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.file)
def test_everything_stays_in_float32(peer):
    def run(inputs):
        assert inputs.dtype == np.float32
        if "nanodet" in peer.file:
            return [np.full((1, n, c), 0.5, np.float32) for c in (80, 32) for n in (16, 4, 1)]
        return [np.full((1, 85, 2, 2) if "Fast" in peer.file else (1, 21, 85), 0.5, np.float32)]

    found = peer.detect(IMAGE, 32, run)
    assert len(found) >= 80
    assert found.boxes.dtype == found.scores.dtype == torch.float32


def test_suppress_is_class_wise_and_clips():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [-5, 0, 10, 10]], np.float32)
    scores = np.zeros((3, 80), np.float32)
    scores[0, 0], scores[1, 0], scores[2, 1], scores[2, 5] = 0.9, 0.8, 0.7, 0.01
    found = suppress(boxes, scores, (8, 20), 0.6)
    assert found.labels.tolist() == [1, 2]
    assert found.boxes.tolist() == [[0, 0, 10, 8], [0, 0, 10, 8]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])


def test_peers_have_different_files():
    assert len({peer.file for peer in PEERS}) == len({peer.name for peer in PEERS}) == len(PEERS)
