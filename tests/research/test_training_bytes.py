"""research/training_bytes.py: what it counts, by hand, and the tool on tiny detectors."""

import torch
from torch import nn
from torch.nn import functional as F

from research.training_bytes import OperationProfiler, main


def test_bytes_of_a_pointwise_convolution_by_hand():
    x, weight = torch.zeros(2, 4, 5, 5), torch.zeros(6, 4, 1, 1)
    with OperationProfiler() as profile:
        F.conv2d(x, weight)
    assert dict(profile.bytes) == {"1x1": 4 * (2 * 4 * 25 + 6 * 4 + 2 * 6 * 25)}
    assert profile.seconds["1x1"] > 0


def test_forward_and_backward_are_told_apart_by_kind():
    network = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), nn.BatchNorm2d(4), nn.ReLU6()
    )
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    with OperationProfiler() as profile:
        network(x).sum().backward()
    activation = 2 * 4 * 25 * 4
    # forward reads and writes one activation, backward reads two and writes two, or one in a norm
    assert profile.bytes["depthwise"] == (2 + 3) * activation + 3 * 4 * 9 * 4
    assert profile.bytes["ReLU6"] == (2 + 3) * activation
    assert (2 + 3) * activation <= profile.bytes["batch norm"] < (2 + 3) * activation + 400
    assert "3x3" not in profile.bytes


def test_views_move_no_bytes():
    with OperationProfiler() as profile:
        torch.zeros(8).reshape(2, 4).transpose(0, 1)
    assert sum(profile.bytes.values()) == 8 * 4  # the zeros


def test_the_table(tmp_path, capsys):
    detector = "{num_classes: 2, image_size: 64, backbone: {width: 0.25, depth: 0.1}}"
    (tmp_path / "tiny.yaml").write_text(f"model:\n  detector: {detector}\n")
    assert main([str(tmp_path / "tiny.yaml"), "--batch", "2", "--rounds", "1"]) == 0
    head, times, sizes = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["network", "all", "1x1", "depthwise"]
    assert times.split()[:2] == ["tiny", "ms"]
    assert sizes.split()[0] == "MB"
    assert main(["none.yaml"]) == 1
    assert "none.yaml" in capsys.readouterr().err
