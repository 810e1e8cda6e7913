"""The choice of the input's size."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tasks.compress.networks import MOBILENETV2, SIZE, small_detector, teacher_of
from torch.utils.flop_counter import FlopCounterMode

pytest.importorskip("scipy")
from igcv3det.shapes.dataset import write_shapes
from igcv3det.structures import Detections
from igcv3det.tasks.compress import agreement, front, input_costs, input_size
from igcv3det.tasks.compress.agreement import Agreement
from igcv3det.tasks.compress.candidates import Candidate
from igcv3det.tasks.compress.front import Point
from igcv3det.tasks.compress.input_size import InputSizes
from igcv3det.tasks.compress.price_files import read_shares
from igcv3det.tasks.compress.work_folder import WorkFolder


def _search(sizes=(), side=300, kind="detector", lines=None):
    return SimpleNamespace(
        options=SimpleNamespace(image_sizes=sizes),
        teacher=SimpleNamespace(
            size=(side, side), kind=kind, network=None, at_size=lambda *_: None
        ),
        say=[].append if lines is None else lines.append,
    )


@pytest.mark.parametrize(
    ("budgets", "first"),
    [
        ({"latency": 0.8}, 256),  # 300 sqrt(0.8) - 16 = 252.3
        ({"latency": 0.9, "multiply_adds": 0.6}, 220),  # 300 sqrt(0.6) - 16 = 216.4
        ({"latency": 0.8, "parameters": 0.1}, 256),
        ({"parameters": 0.5}, 300),
        ({"latency": 1.0}, 284),
    ],
)
def test_sides_of_300_px(monkeypatch, budgets, first):
    asked = _asked(monkeypatch, {})
    InputSizes(_search()).choose(budgets)
    assert asked == (list(range(first, 301, 4)) if first < 300 else [])


def _asked(monkeypatch, values):
    """The sides whose agreement is asked for; of a side without a value it is its length."""
    asked = []

    def agreement_of(self, point, side):
        asked.append(side)
        return values.get(side, side)

    def choose(search, budgets, size=None):
        return Point(budgets, {}, {}, 0.0, size)

    monkeypatch.setattr(InputSizes, "_agreement", SimpleNamespace(objects=1))
    monkeypatch.setattr(InputSizes, "_agreement_of", agreement_of)
    monkeypatch.setattr(input_size, "choose_point", choose)
    monkeypatch.setattr(input_size, "choose_measured", choose)
    return asked


def test_the_side_that_agrees_best(monkeypatch):
    values = {
        256: 0.2,
        260: 0.2,
        264: 0.3,
        268: 0.5,
        272: 0.4,
        276: 0.5,
        280: 0.4,
        284: 0.1,
        288: 0.1,
        292: 0.1,
    }
    asked = _asked(monkeypatch, values)
    lines = []
    point = InputSizes(_search(lines=lines)).choose({"latency": 0.8})
    assert asked == [256, 260, 264, 268, 272, 276, 280, 284]  # 268 is the first with the most
    assert point.size == (276, 276)  # of equals the larger
    assert point.tried == {side: values[side] for side in asked}
    assert lines[3] == "latency0.8: at 268 px agreement 0.500"


def test_the_original_size_is_no_other_size(monkeypatch):
    _asked(monkeypatch, {})
    point = InputSizes(_search()).choose({"latency": 0.8})
    assert point.size is None
    assert max(point.tried) == 300


def test_given_sizes_are_all_tried(monkeypatch):
    given = (300, 200, 220, 240, 260, 280)
    asked = _asked(monkeypatch, {200: 1000})
    assert InputSizes(_search(given)).choose({"latency": 0.8}).size == (200, 200)
    assert asked == sorted(given)
    assert InputSizes(_search((200,))).choose({"latency": 0.8}).size == (200, 200)
    assert InputSizes(_search((300,))).choose({"latency": 0.8}).size is None
    assert len(asked) == len(given)  # nothing to compare


def test_a_size_at_which_no_network_keeps_the_budgets_is_left_out(monkeypatch):
    _asked(monkeypatch, {})

    def choose(search, budgets, size=None):
        if size is None or size[0] > 280:
            raise ValueError("no combination is that small")
        return Point(budgets, {}, {}, 0.0, size)

    monkeypatch.setattr(input_size, "choose_point", choose)
    monkeypatch.setattr(input_size, "choose_measured", choose)
    assert InputSizes(_search((260, 280, 300))).choose({"latency": 0.8}).size == (280, 280)
    for given in ((290, 300), ()):
        with pytest.raises(ValueError, match="no combination"):
            InputSizes(_search(given)).choose({"latency": 0.8})


def test_without_detections_the_size_stays(monkeypatch):
    asked = _asked(monkeypatch, {})
    monkeypatch.setattr(InputSizes, "_agreement", SimpleNamespace(objects=0))
    lines = []
    assert InputSizes(_search(lines=lines)).choose({"latency": 0.8}).size is None
    assert not asked
    assert lines == ["the original finds nothing with a score of 0.3: 300 px is taken"]
    assert InputSizes(_search((200, 240))).choose({"latency": 0.8}).size == (240, 240)
    assert InputSizes(_search((240, 300, 400))).choose({"latency": 0.8}).size is None


def test_without_detections_the_largest_size_that_keeps_the_budgets(monkeypatch):
    _asked(monkeypatch, {})
    monkeypatch.setattr(InputSizes, "_agreement", SimpleNamespace(objects=0))

    def choose(search, budgets, size=None):
        if size is None or size[0] > 240:
            raise ValueError("no combination is that small")
        return Point(budgets, {}, {}, 0.0, size)

    monkeypatch.setattr(input_size, "choose_point", choose)
    monkeypatch.setattr(input_size, "choose_measured", choose)
    assert InputSizes(_search((200, 240, 300))).choose({"latency": 0.5}).size == (240, 240)
    with pytest.raises(ValueError, match="no combination"):
        InputSizes(_search((260, 300))).choose({"latency": 0.5})


def test_damaged_detections_are_named(tmp_path):
    (tmp_path / "detections.json").write_text("{}")
    with pytest.raises(ValueError, match=r"detections\.json: damaged; delete it"):
        Agreement(small_detector(MOBILENETV2), [tmp_path / "a.jpg"], tmp_path / "detections.json")


def test_damaged_costs_of_sizes_are_named(tmp_path):
    folder = WorkFolder(tmp_path)
    folder.write("sizes-torch-1.json", {"56x56": "a"})
    with pytest.raises(ValueError, match=r"sizes-torch-1\.json: damaged.*56x56: expected a pos"):
        read_shares(folder, "sizes-torch-1.json")


def test_budgets_before_any_price():
    """Half the side has a quarter of the pixels."""
    most = InputSizes(_search((150, 300))).at_most({"latency": 0.2, "parameters": 0.5})
    assert most == {"latency": 1.0, "parameters": 0.5}  # with a quarter for rounding
    larger = InputSizes(_search((600,))).at_most({"latency": 0.2})
    assert larger == {"latency": pytest.approx(0.2 * 1.25 / 4)}  # 300 px is not asked for
    assert InputSizes(_search()).at_most({"latency": 0.2}) == {"latency": 0.2}


def test_costs_at_another_size(monkeypatch):
    """0.6 of the original's costs, at a size at which it has 0.8: three quarters."""
    costs = {"latency": 0.8, "multiply_adds": 0.75, "parameters": 1.0}
    monkeypatch.setattr(input_costs, "original_costs", lambda *_: costs)
    budgets = {"latency": 0.6, "multiply_adds": 0.6, "parameters": 0.6}
    inner = input_costs.at_own_size(None, budgets, (200, 200))
    assert inner == pytest.approx({"latency": 0.75, "multiply_adds": 0.8, "parameters": 0.6})


def _operations(network, side):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, side, side))
    return counter.get_total_flops() / 2


def test_multiply_adds_at_another_size():
    teacher = teacher_of(MOBILENETV2)
    own = _operations(teacher.network, SIZE)
    search = SimpleNamespace(teacher=teacher, own_costs=SimpleNamespace(multiply_adds=own))
    smaller = teacher.at_size(teacher.network, (48, 48))
    assert smaller.config.image_size == 48
    assert smaller.config.anchors.trained_size == SIZE
    share = input_costs.multiply_adds(search, teacher.design, (48, 48))
    assert share == pytest.approx(_operations(smaller, 48) / own)
    assert 0.5625 < share < 0.75  # the share of the pixels; maps round up


def test_multiply_adds_are_corrected(monkeypatch):
    """The parts' shares do not tell them at another size: 0.05 more than wanted."""

    def choose(search, budgets, size=None):
        share = budgets["multiply_adds"] + 0.05
        chosen = {"block3": Candidate("block3", f"of {share}", {})}
        return Point(budgets, chosen, {"multiply_adds": share}, 100 - share, size)

    monkeypatch.setattr(front, "choose_point", choose)
    point = front.choose_measured(None, {"multiply_adds": 0.7}, (200, 200))
    assert 0.69 < point.costs["multiply_adds"] <= 0.7
    assert point.budgets == {"multiply_adds": 0.7}


def _found(detectors):
    for network in detectors:
        for name, bias in network.head.named_parameters():
            if "classification" in name and bias.shape == (6 * 3,):
                bias.data.normal_(std=0.5)  # the scores of a fresh network are near 0.01


def test_the_original_agrees_with_what_it_finds(tmp_path, monkeypatch):
    own, other = small_detector(MOBILENETV2), small_detector(MOBILENETV2, seed=1)
    _found([own, other])
    monkeypatch.setattr(agreement, "VIEWS", (1.0,))
    monkeypatch.setattr(agreement, "_detect_mirrored", lambda predictor, images: predictor(images))
    write_shapes(tmp_path, train=6, val=1, image_size=80)
    images = sorted((tmp_path / "train2017").glob("*"))
    found = Agreement(own, images, tmp_path / "found.json")
    assert found.objects > 20
    assert found.of(own) > 0.95  # boxes that fusion joins are no longer its own
    assert found.of(other) < 0.5


def test_mirrored_views(tmp_path, monkeypatch):
    """What a detector finds on the left of mirrored images lies on the right."""

    class Left:
        def __init__(self, detector):
            pass

        def __call__(self, images):
            sides = [(image.shape[1] / 4, image.shape[0]) for image in images]
            boxes = [torch.tensor([[0.0, 0.0, *side]]) for side in sides]
            one = torch.ones(1, dtype=torch.int64)
            return [Detections(box, torch.ones(1), one, None) for box in boxes]

    write_shapes(tmp_path, train=1, val=1, image_size=80)
    images = sorted((tmp_path / "train2017").glob("*"))
    monkeypatch.setattr(agreement, "_predictor", Left)
    monkeypatch.setattr(agreement, "VIEWS", (0.75, 1.0))
    Agreement(small_detector(MOBILENETV2), images, tmp_path / "found.json")
    content = json.loads((tmp_path / "found.json").read_text())
    assert [a["bbox"] for a in content["annotations"]] == [[60, 0, 20, 80]]


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_rotated_photographs(tmp_path, orientation):
    """What is found in an image as viewers show it is compared with what is found there."""
    own = small_detector(MOBILENETV2)
    _found([own])
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    pixels[:32] = 0
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a:b.jpg"
    Image.fromarray(pixels).save(path, exif=exif)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "VIEWS", (1.0,))
        patch.setattr(agreement, "_detect_mirrored", lambda view, images: view(images))
        assert Agreement(own, [path], tmp_path / "found.json").of(own) > 0.95


def test_views_of_a_small_detector(tmp_path):
    config = dataclasses.replace(MOBILENETV2, image_size=36)
    write_shapes(tmp_path, train=1, val=1, image_size=80)
    images = sorted((tmp_path / "train2017").glob("*"))
    assert Agreement(small_detector(config), images, tmp_path / "found.json").objects == 0


def test_at_most_so_many_images(tmp_path, monkeypatch):
    write_shapes(tmp_path, train=5, val=1, image_size=80)
    images = sorted((tmp_path / "train2017").glob("*"))
    monkeypatch.setattr(agreement, "IMAGES", 3)
    monkeypatch.setattr(agreement, "VIEWS", (1.0,))
    found = Agreement(small_detector(MOBILENETV2), images, tmp_path / "found.json")
    assert found.objects == 0  # the scores of a fresh network are near 0.01
    content = json.loads((tmp_path / "found.json").read_text())
    assert [entry["file_name"] for entry in content["images"]] == [p.name for p in images[:3]]
    (tmp_path / "found.json").write_text("{")
    with pytest.raises(ValueError, match=r"found\.json: damaged; delete it"):
        Agreement(small_detector(MOBILENETV2), images, tmp_path / "found.json")
