"""The weights that come with the package, and how they are packed."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from igcv3det import build_detector, load_detector, pretrained
from igcv3det.checkpoint import preview_notice, read_config, save_detector
from igcv3det.cli.eval import main as evaluate
from igcv3det.config import BackboneConfig, DetectorConfig
from igcv3det.datasets.coco_categories import COCO_CATEGORIES
from igcv3det.detector import anchors_at
from igcv3det.predictor import Predictor
from igcv3det.pretrained import DEFAULT, PRETRAINED
from igcv3det.weight_files import checksum, read_metadata
from research.convert.ssdlite import CONFIG
from tools.release import main

FACTS = {"status": "preview", "figures": "AP 0", "data": "none", "teachers": "none", "licence": "x"}
CONFIGS = Path(__file__).parent.parent / "configs"
TINY = DetectorConfig(num_classes=80, image_size=64, backbone=BackboneConfig(width=0.25))


def test_checksum_by_hand():
    weights = {"b": torch.tensor([1, 2], dtype=torch.int64), "a": torch.tensor([0.5])}
    text = b"a torch.float32 [1]\n" + weights["a"].numpy().tobytes()
    text += b"b torch.int64 [2]\n" + weights["b"].numpy().tobytes()
    assert checksum(weights) == hashlib.sha256(text).hexdigest()


def test_igcv3_d_is_the_papers():
    detector = load_detector("igcv3-d")
    backbone = detector.config.backbone
    assert (backbone.name, backbone.variant, backbone.width) == ("igcv3", "D", 1.0)
    assert (backbone.groups, backbone.relu, backbone.p1, backbone.p2) == (
        (2, 2),
        "depthwise",
        True,
        False,
    )
    assert backbone.repeats is None
    assert backbone.depth == 1.0
    assert detector.categories == COCO_CATEGORIES
    # 3,491,688 with its classifier of 1280 * 1000 + 1000
    assert sum(p.numel() for p in detector.backbone.parameters()) == 3_491_688 - 1_281_000


@pytest.mark.parametrize("name", PRETRAINED)
def test_pretrained_files_are_small_and_say_where_they_come_from(name):
    assert PRETRAINED[name].stat().st_size <= 10e6
    facts = read_metadata(PRETRAINED[name])
    for key in ("status", "figures", "data", "teachers", "licence", "weights_sha256"):
        assert facts[key]
    assert "Apache-2.0" in facts["licence"]
    assert PRETRAINED[name].name in (CONFIGS.parent / "NOTICE").read_text()
    notice = preview_notice(name)
    assert (notice is None) == (facts["status"] == "release")
    assert notice is None or facts["figures"] in notice


def test_the_baseline_is_tensorflows():
    detector = load_detector("mobilenetv2")  # compares the checksum
    assert detector.config == CONFIG
    assert detector.config == read_config(CONFIGS / "mobilenetv2_ssdlite300_tf.yaml")
    assert detector.categories == COCO_CATEGORIES
    assert len(detector.anchors) == 1917  # of the pipeline's configuration at 300 px
    # 2,223,872 without the classifier, as torchvision counts; extra layers and heads by their
    # shapes: 3x3 depthwise without bias, a norm, and a biased 1x1 to (81 + 4) * anchors a cell
    assert sum(p.numel() for p in detector.backbone.parameters()) == 2_223_872
    heads = sum(9 * c + 2 * c for c in (576, 1280, 512, 256, 256, 128)) * 2
    heads += sum(
        (c + 1) * a * 85
        for c, a in zip((576, 1280, 512, 256, 256, 128), (3, *[6] * 5), strict=True)
    )
    assert sum(p.numel() for p in detector.head.parameters()) == heads
    # the statistics that training starts from were measured: the graph has 0 and 1 - eps
    first = detector.backbone.features[0][1]
    assert not torch.allclose(first.running_var, torch.full((), 1 - first.eps), atol=0.01)


@pytest.mark.parametrize(
    ("name", "side"),
    [("searched-90", 300), ("searched-80", 268), ("searched-60", 220)],
)
def test_the_searched_detectors_are_smaller_baselines(name, side):
    found, baseline = load_detector(name), load_detector("mobilenetv2")
    assert found.categories == baseline.categories
    assert anchors_at(found.config, 300) == baseline.config.anchors
    assert found.config.preprocess == baseline.config.preprocess
    assert found.config.image_size == side
    assert found.config.backbone.last_channels == 960  # three quarters
    assert found.config.head.class_ranks == (64, 192, 128, 64, 64, 32)
    assert found.config.head.class_groups[1] == (2, 2)
    parameters = [sum(p.numel() for p in d.parameters()) for d in (found, baseline)]
    assert parameters[0] < 0.75 * parameters[1]


def test_the_restricted_detector_has_the_papers_blocks_in_stages_4_to_7():
    found, baseline = load_detector("searched-igcv3"), load_detector("mobilenetv2")
    assert found.config.image_size == 272
    assert anchors_at(found.config, 300) == baseline.config.anchors
    blocks = found.config.backbone.blocks
    late = [block for block in blocks if block.stage >= 4]
    assert {(block.groups, block.relu) for block in late} == {((2, 2), "depthwise")}
    assert {block.groups for block in blocks if block.stage < 4} == {(1, 1)}
    assert len(late) == 11 + 5  # blocks 6 to 10 became two
    parameters = [sum(p.numel() for p in d.parameters()) for d in (found, baseline)]
    assert parameters[0] < 0.66 * parameters[1]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("igcv3-d", 0.149),
        ("mobilenetv2", 0.313),
        ("searched-90", 0.302),
        ("searched-80", 0.270),
        ("searched-60", 0.217),
        ("searched-igcv3", 0.157),
    ],
)
def test_the_published_average_precision(real_data, tmp_path, name, expected):
    coco = real_data / "coco_subset"
    annotations = coco / "annotations" / "instances_val2017.json"
    words = ["--annotations", annotations, "--images", coco / "val2017", "--output", tmp_path / "m"]
    assert evaluate(["--checkpoint", name, *map(str, words)]) == 0
    assert json.loads((tmp_path / "m").read_text())["AP"] == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [("", "the model has an empty name"), (".", r"\.: a folder, not a file of weights")],
)
def test_a_name_that_is_no_file(name, message):
    with pytest.raises(OSError, match=message):
        load_detector(name)


@pytest.mark.parametrize("model", [None, DEFAULT, "igcv3-d"])
def test_a_folder_of_that_name_is_no_model(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / (model or DEFAULT)).mkdir()
    assert pretrained.resolve_model(model) == PRETRAINED[model or DEFAULT]


def test_a_file_of_that_name_counts_where_the_name_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT).touch()
    assert pretrained.resolve_model(DEFAULT) == Path(DEFAULT)
    assert pretrained.resolve_model() == PRETRAINED[DEFAULT]


def test_a_predictor_without_a_path_takes_it():
    predictor = Predictor.load(score_threshold=0.5)
    assert predictor.categories == COCO_CATEGORIES
    assert predictor.network.config == load_detector(DEFAULT).config


@pytest.fixture
def packed(tmp_path):
    checkpoint = tmp_path / "best.safetensors"
    save_detector(build_detector(TINY, COCO_CATEGORIES), checkpoint)
    (tmp_path / "facts.json").write_text(json.dumps(FACTS))
    return tmp_path


def pack(folder, *options):
    words = ["--checkpoint", folder / "best.safetensors", "--facts", folder / "facts.json"]
    return main([str(word) for word in (*words, "--output", folder / "out.safetensors", *options)])


def test_packing(packed, monkeypatch, capsys):
    assert pack(packed) == 0
    assert "sha256" in capsys.readouterr().out
    monkeypatch.setitem(pretrained.PRETRAINED, DEFAULT, packed / "out.safetensors")
    found, source = load_detector(DEFAULT), load_detector(packed / "best.safetensors")
    for name, value in source.state_dict().items():
        expected = value.half().float() if value.is_floating_point() else value
        assert_close(found.state_dict()[name], expected, rtol=0, atol=0)
    assert preview_notice(DEFAULT) == "out: the weights are a preview (AP 0)"


def test_damage_is_noticed(packed, monkeypatch):
    pack(packed)
    path = packed / "out.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    monkeypatch.setitem(pretrained.PRETRAINED, DEFAULT, path)
    with pytest.raises(ValueError, match=r"out\.safetensors: damaged"):
        load_detector(DEFAULT)


def test_the_outputs_are_compared(packed, tmp_path, capsys):
    from igcv3det.io.images import write_image

    (tmp_path / "photos").mkdir()
    image = torch.randint(0, 256, (70, 90, 3), dtype=torch.uint8).numpy()
    write_image(tmp_path / "photos" / "a.png", image)
    assert pack(packed, "--images", tmp_path / "photos") == 0
    assert "on 1 images" in capsys.readouterr().out


def test_metadata_of_the_checkpoint_is_kept(packed):
    detector = load_detector(packed / "best.safetensors")
    save_detector(detector, packed / "best.safetensors", {"data": "old", "converted_by": "me"})
    assert pack(packed) == 0
    metadata = read_metadata(packed / "out.safetensors")
    assert (metadata["converted_by"], metadata["data"]) == ("me", FACTS["data"])


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({**FACTS, "status": "done"}, "status must be preview or release"),
        ({"status": "release"}, "no text for figures, data, teachers, licence"),
        ("{", "not JSON"),
    ],
)
def test_facts_must_be_complete(packed, capsys, facts, complaint):
    (packed / "facts.json").write_text(facts if isinstance(facts, str) else json.dumps(facts))
    assert pack(packed) == 1
    assert complaint in capsys.readouterr().err


def test_infer_needs_no_checkpoint_and_names_its_weights(tmp_path, capsys):
    from igcv3det.io.images import write_image
    from tools.infer import main as infer

    image = torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8).numpy()
    write_image(tmp_path / "a.png", image)
    found = tmp_path / "found.json"
    assert infer([str(tmp_path / "a.png"), "--json", str(found)]) == 0
    assert json.loads(found.read_text())[0]["width"] == 80
    notice = preview_notice(DEFAULT)
    assert capsys.readouterr().err == (f"predict: {notice}\n" if notice else "")
