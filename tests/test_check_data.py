import json
import os
from pathlib import Path

import pytest
from coco_files import save_tiny_detector
from synthetic import ISSUES, write_coco

from tools.check_data import main


def check(paths, *options):
    return main(["--annotations", str(paths.annotations), "--images", str(paths.images), *options])


def test_report_of_a_sound_data_set(tmp_path, capsys):
    paths = write_coco(tmp_path)
    assert check(paths, "--json", str(tmp_path / "out" / "report.json"), "--strict") == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.strip().endswith("report.json")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["images"] == 6
    assert report["images_without_objects"] == 1
    assert (report["boxes"], report["crowds"]) == (6, 1)
    assert [item["category_id"] for item in report["classes"]] == [3, 7, 90]
    assert [item["boxes"] for item in report["classes"]] == [2, 2, 2]
    assert report["small"] + report["medium"] + report["large"] == 6
    assert 0 <= report["coverage"] <= 1
    assert report["issues"] == []


@pytest.mark.parametrize("kind", sorted(ISSUES))
def test_each_issue_is_listed_and_strict_fails(tmp_path, capsys, kind):
    paths = write_coco(tmp_path, issues=[kind])
    assert check(paths, "--json", str(tmp_path / "report.json")) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(str(paths.annotations))
    assert kind in line
    assert json.loads((tmp_path / "report.json").read_text())["issue_counts"] == {kind: 1}
    assert check(paths, "--strict") == 1


def test_configuration_sets_the_anchors(tmp_path, capsys):
    paths = write_coco(tmp_path)
    config = tmp_path / "config.yaml"
    config.write_text(
        "model: {detector: {num_classes: 3, image_size: 96, anchors: {min_scale: 0.3}}}"
    )
    assert check(paths, "--config", str(config)) == 0
    assert capsys.readouterr().err == ""
    config.write_text("model: {detector: {num_classes: 80}}")
    assert check(paths, "--config", str(config)) == 0
    assert "num_classes is 80" in capsys.readouterr().err


def test_classes_that_training_leaves_out_are_not_missed(tmp_path, capsys):
    paths = write_coco(tmp_path)
    content = json.loads(paths.annotations.read_text())
    content["categories"].append({"id": 91, "name": "unused"})
    paths.annotations.write_text(json.dumps(content))
    config = tmp_path / "config.yaml"
    for more, complaint in (("", "has 4 categories"), ("data: {drop_empty_classes: true}", "")):
        config.write_text("model: {detector: {num_classes: 3, image_size: 96}}\n" + more)
        assert check(paths, "--config", str(config)) == 0
        err = capsys.readouterr().err
        assert complaint in err if complaint else err == ""


def test_without_a_configuration_the_anchors_are_those_that_fine_tuning_starts_from(tmp_path):
    paths, report = write_coco(tmp_path), tmp_path / "report.json"
    coverage = []
    for options in ([], ["--config", "finetune"]):
        assert check(paths, "--json", str(report), *options) == 0
        coverage.append(json.loads(report.read_text())["coverage"])
    assert coverage[0] == coverage[1]


def test_the_detector_may_be_weights(tmp_path, capsys):
    paths, report = write_coco(tmp_path), tmp_path / "report.json"
    weights = save_tiny_detector(tmp_path / "tiny.safetensors")
    config = tmp_path / "config.yaml"
    config.write_text(f"model: {{weights: {weights}}}")

    def coverage(*options):
        assert check(paths, "--json", str(report), *options) == 0
        return json.loads(report.read_text())["coverage"]

    assert coverage("--config", "mobilenetv2") == coverage()
    assert "num_classes" not in capsys.readouterr().err
    assert coverage("--config", str(weights)) == coverage("--config", str(config))
    assert coverage("--config", "released") == coverage("--config", "mobilenetv2")


def test_what_cannot_be_reported(tmp_path, capsys):
    paths = write_coco(tmp_path)
    assert check(paths._replace(images=tmp_path / "gone")) == 1
    assert check(paths, "--config", str(tmp_path / "gone.yaml")) == 1
    paths.annotations.write_text(paths.annotations.read_text()[:500])
    assert check(paths) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert "instances_val2017.json: not JSON at line 1" in lines[2]
    assert "cut off" in lines[2]


def test_wrong_call(capsys):
    with pytest.raises(SystemExit) as exit_status:
        main(["--annotations", "a.json"])
    assert exit_status.value.code == 2
    assert "--images" in capsys.readouterr().err


@pytest.mark.data
def test_real_coco_is_sound(capsys):
    root = os.environ.get("IGCV3DET_DATA")
    if root is None or not (Path(root) / "coco_subset").is_dir():
        pytest.skip("set IGCV3DET_DATA to a folder with coco_subset/")
    folder = Path(root) / "coco_subset"
    annotations = folder / "annotations" / "instances_val2017.json"
    assert (
        main(["--annotations", str(annotations), "--images", str(folder / "val2017"), "--strict"])
        == 0
    )
    assert "person" in capsys.readouterr().out
