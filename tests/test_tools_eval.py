"""tools/eval_det.py as a user runs it."""

import json

import pytest
from coco_files import coco, pycocotools_figures, save_tiny_detector, write_json, write_noise

from igcv3det.evaluation.coco_scoring import SUMMARY_NAMES
from igcv3det.predictor import Predictor
from igcv3det.structures import Categories
from tools.eval_det import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four images whose objects lie where the random detector happens to see some."""
    root = tmp_path_factory.mktemp("data")
    predictor = Predictor.load(save_tiny_detector(root / "tiny.safetensors"), score_threshold=0.0)
    annotations = []
    for image_id in (4, 2, 9, 5):
        found = predictor(write_noise(root / f"{image_id}.png", seed=image_id))
        for box, category_id in list(zip(found.boxes.tolist(), found.category_ids, strict=True))[
            :9:4
        ]:
            x0, y0, x1, y1 = box
            annotations.append((image_id, category_id, (x0, y0, x1 - x0, y1 - y0)))
    write_json(root / "truth.json", coco([4, 2, 9, 5], annotations))
    return root


def run(folder, *args, annotations="truth.json"):
    base = ["--checkpoint", folder / "tiny.safetensors", "--annotations", folder / annotations]
    return main([str(arg) for arg in (*base, "--images", folder, "--batch-size", "3", *args)])


def test_figures_are_pycocotools_own_of_the_written_detections(folder, tmp_path, capsys):
    output, results = tmp_path / "new" / "metrics.json", tmp_path / "results.json"
    assert run(folder, "--output", output, "--detections", results) == 0
    metrics, found = json.loads(output.read_text()), json.loads(results.read_text())
    expected = pycocotools_figures(folder / "truth.json", str(results))
    assert [metrics[name] for name in SUMMARY_NAMES] == [
        None if figure != figure else figure for figure in expected
    ]
    assert metrics["AP"] > 0.1
    assert {r["category_id"] for r in found} <= {1, 3, 7}
    assert min(r["score"] for r in found) >= 0.01
    assert max(sum(r["image_id"] == i for r in found) for i in (2, 4, 5, 9)) <= 100
    assert (metrics["images"], metrics["partial"], metrics["unreadable_images"]) == (4, False, 0)
    text = capsys.readouterr().out
    assert "PARTIAL" not in text
    for word in ("AP50", "ARl", "cat", "dog", "zebra", str(output), str(results)):
        assert word in text


def test_limit_takes_the_first_images_and_says_so(folder, tmp_path, capsys):
    output, results = tmp_path / "metrics.json", tmp_path / "results.json"
    assert run(folder, "--limit", "2", "--output", output, "--detections", results) == 0
    metrics = json.loads(output.read_text())
    assert {r["image_id"] for r in json.loads(results.read_text())} == {4, 2}
    expected = pycocotools_figures(folder / "truth.json", str(results), image_ids=[2, 4])
    assert metrics["AP"] == expected[0]
    assert metrics["partial"] is True
    assert "PARTIAL: only the first 2 of 4 images" in capsys.readouterr().out


def test_categories(folder, tmp_path):
    output, results = tmp_path / "metrics.json", tmp_path / "results.json"
    run(folder, "--categories", "1,3", "--output", output, "--detections", results)
    metrics = json.loads(output.read_text())
    assert list(metrics["per_class"]) == ["cat", "dog"]
    expected = pycocotools_figures(folder / "truth.json", str(results), category_ids=[1, 3])
    assert metrics["AP"] == expected[0]


def test_unreadable_images_are_left_out_and_named(folder, tmp_path, capsys):
    content = json.loads((folder / "truth.json").read_text())
    content["images"][1]["file_name"] = "gone.png"
    content["images"][2]["width"] = 77
    write_json(folder / "broken.json", content)
    output, results = tmp_path / "metrics.json", tmp_path / "results.json"
    files = ["--output", output, "--detections", results]
    assert run(folder, *files, annotations="broken.json") == 1
    text = capsys.readouterr()
    lines = text.err.splitlines()
    assert len(lines) == 2
    assert "gone.png: no such file" in lines[0]
    assert "9.png" in lines[1]
    assert "width 77" in lines[1]
    assert "PARTIAL: 2 images are missing or could not be read" in text.out
    metrics = json.loads(output.read_text())
    assert (metrics["images"], metrics["partial"], metrics["unreadable_images"]) == (2, True, 2)
    kept = [content["images"][row]["id"] for row in (0, 3)]
    expected = pycocotools_figures(folder / "truth.json", str(results), image_ids=kept)
    assert metrics["AP"] == expected[0]


def test_a_missing_model_is_named_before_the_data_set_is_read(tmp_path, capsys):
    call = ["--data", str(tmp_path), "--checkpoint", str(tmp_path / "gone.safetensors")]
    assert main(call) == 1
    assert capsys.readouterr().err == f"eval: {tmp_path / 'gone.safetensors'}: no such file\n"


def test_no_figures_without_a_single_image(folder, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    truth, output = str(folder / "truth.json"), tmp_path / "metrics.json"
    call = ["--annotations", truth, "--images", str(tmp_path / "empty"), "--output", str(output)]
    assert main([*call, "--checkpoint", str(folder / "tiny.safetensors")]) == 1
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "empty: none of the 4 images could be read, so there are no figures" in last
    assert not output.exists()


def test_results_files_are_scored_without_a_detector(folder, tmp_path):
    results, output = tmp_path / "results.json", tmp_path / "metrics.json"
    run(folder, "--detections", results)
    truth = str(folder / "truth.json")
    assert main(["--annotations", truth, "--results", str(results), "--output", str(output)]) == 0
    assert json.loads(output.read_text())["AP"] == pycocotools_figures(truth, str(results))[0]


def test_plots(folder, tmp_path, capsys):
    plots, output = tmp_path / "plots", tmp_path / "m.json"
    assert run(folder, "--plots", plots, "--output", output, "--limit", "3") == 0
    assert f"Plots are in {plots}: {plots / 'report.html'}" in capsys.readouterr().out
    numbers, metrics = (
        json.loads((plots / "plots.json").read_text()),
        json.loads(output.read_text()),
    )
    assert numbers["images"] == 3
    assert numbers["all"]["AP50"] == pytest.approx(metrics["AP50"], abs=1e-12)
    assert numbers["title"] == "tiny.safetensors on truth.json"
    assert run(folder, "--plots", plots) == 1
    output = capsys.readouterr()
    assert output.err == f"eval: {plots}: is not empty; name a new folder for the plots\n"
    assert output.out == ""


@pytest.mark.parametrize("detections", [False, True])
def test_no_objects_give_no_figures_but_detections(folder, tmp_path, detections, capsys):
    write_json(folder / "empty.json", coco([4, 2], []))
    options = ["--detections", tmp_path / "d.json"] if detections else []
    options += ["--plots", tmp_path / "plots"]
    status = run(folder, "--output", tmp_path / "m.json", *options, annotations="empty.json")
    assert status == 1
    assert not (tmp_path / "m.json").exists()
    assert not (tmp_path / "plots").exists()
    output = capsys.readouterr()
    line = "empty.json: annotations: not a single object in the 2 images that are evaluated, so"
    assert output.err.startswith(f"eval: {folder / line}")
    assert len(output.err.splitlines()) == 1
    assert "AP" not in output.out
    if detections:
        assert {found["image_id"] for found in json.loads((tmp_path / "d.json").read_text())}


def test_an_ap_near_zero_is_diagnosed(folder, capsys):
    far_off = [(image_id, 1, (0, 0, 3, 3)) for image_id in (4, 2)]
    write_json(folder / "hopeless.json", coco([4, 2], far_off))
    assert run(folder, annotations="hopeless.json") == 0
    text = capsys.readouterr().out
    assert "AP is below 0.001" in text
    assert "2 objects on 2 images" in text


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (["--checkpoint", "none.ckpt"], "none.ckpt: no such file"),
        (["--annotations", "none.json"], "none.json: no such file"),
        (["--images", "no folder"], "no folder: no such folder of images"),
        (["--categories", "1,4"], "cannot score category ids [4]"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, args, complaint, capsys):
    assert run(folder, *args) == 1
    output = capsys.readouterr()
    assert output.err.splitlines() == [output.err.strip()]
    assert complaint in output.err


def test_other_classes_name_both_lists(folder, capsys):
    other = Categories((1, 2), ("sofa", "lamp"))
    write_json(folder / "other.json", coco([4], [], other))
    assert run(folder, annotations="other.json") == 1
    error = capsys.readouterr().err
    assert "'cat'" in error
    assert "'sofa'" in error


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--annotations", "a.json"],
        ["--annotations", "a.json", "--images", "x", "--limit", "0"],
        ["--annotations", "a.json", "--images", "x", "--categories", "1,b"],
        ["--annotations", "a.json", "--results", "r.json", "--limit", "3"],
    ],
)
def test_wrong_calls(args, capsys):
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err
