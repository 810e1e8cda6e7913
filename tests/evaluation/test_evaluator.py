"""The evaluator against raw pycocotools and against arithmetic."""

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import THREE, coco, pycocotools_figures, random_scene, write_json
from torch import multiprocessing
from torch.testing import assert_close

from igcv3det.evaluation import CocoEvaluator, metrics_as_json
from igcv3det.evaluation.coco_scoring import SUMMARY_NAMES
from igcv3det.evaluation.evaluator import _join
from igcv3det.evaluation.rows import concatenate, rows_of_image
from igcv3det.structures import Categories, Detections


def as_detections(results, categories=THREE):
    """Results of one image as a predictor would give them."""
    boxes = torch.tensor([r["bbox"] for r in results], dtype=torch.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.tensor([r["score"] for r in results], dtype=torch.float64)
    labels = torch.tensor([categories.ids.index(r["category_id"]) + 1 for r in results])
    return Detections(boxes, scores, labels.long(), categories)


def figures(metrics):
    return [metrics[name] for name in SUMMARY_NAMES]


@pytest.fixture
def scene(tmp_path):
    content, results = random_scene()
    return write_json(tmp_path / "truth.json", content), results


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
def test_twelve_figures_equal_pycocotools(scene, backend):
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    path, results = scene
    evaluator = CocoEvaluator(path, THREE, backend=backend)
    for image_id in evaluator.image_ids:
        mine = [r for r in results if r["image_id"] == image_id]
        evaluator.update([image_id], [as_detections(mine)])
    expected = pycocotools_figures(path, results)
    assert_close(figures(evaluator.compute()), expected, rtol=0, atol=1e-12, equal_nan=True)
    assert 0.1 < expected[0] < 0.9  # the scene can tell right from wrong


def test_results_files_score_as_pycocotools_scores_them(scene, tmp_path):
    path, results = scene
    evaluator = CocoEvaluator(path)
    evaluator.update_results(write_json(tmp_path / "results.json", results))
    metrics = evaluator.compute()
    assert figures(metrics) == pycocotools_figures(path, results)
    evaluator.save_results(tmp_path / "again" / "results.json")
    again = json.loads((tmp_path / "again" / "results.json").read_text())
    assert pycocotools_figures(path, again) == figures(metrics)


def test_per_class_figures_equal_pycocotools_on_one_class(scene):
    path, results = scene
    evaluator = CocoEvaluator(path)
    evaluator.update_results(results)
    per_class = evaluator.compute()["per_class"]
    assert list(per_class) == ["cat", "dog", "zebra"]
    for name, category_id in (("cat", 1), ("dog", 3)):
        expected = pycocotools_figures(path, results, category_ids=[category_id])
        found = per_class[name]
        assert_close(
            [found["AP"], found["AP50"], found["AR100"]], [expected[0], expected[1], expected[8]]
        )
        assert found["category_id"] == category_id
        assert found["detections"] == sum(r["category_id"] == category_id for r in results)
    assert math.isnan(per_class["zebra"]["AP"])
    assert per_class["zebra"]["ground_truths"] == 0


def test_only_images_that_were_shown_count(scene):
    path, results = scene
    evaluator = CocoEvaluator(path, THREE)
    shown = evaluator.image_ids[:5]
    for image_id in shown:
        evaluator.update(
            [image_id], [as_detections([r for r in results if r["image_id"] == image_id])]
        )
    expected = pycocotools_figures(path, results, image_ids=shown)
    assert_close(figures(evaluator.compute()), expected, rtol=0, atol=1e-12, equal_nan=True)
    assert evaluator.image_count == 5


def test_only_asked_categories_are_scored_but_all_are_kept(scene):
    path, results = scene
    evaluator = CocoEvaluator(path, scored_ids=[3])
    evaluator.update_results(results)
    metrics = evaluator.compute()
    assert figures(metrics) == pycocotools_figures(path, results, category_ids=[3])
    assert list(metrics["per_class"]) == ["dog"]
    assert len(evaluator.results()) == len(results)
    with pytest.raises(ValueError, match=r"cannot score category ids \[4\]"):
        CocoEvaluator(path, scored_ids=[3, 4])


def detections(*rows):
    """Rows of x0, y0, x1, y1, score, label."""
    table = torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long())


def test_half_of_the_objects_found_by_arithmetic(tmp_path):
    path = write_json(
        tmp_path / "a.json", coco([1], [(1, 1, (0, 0, 40, 40)), (1, 1, (100, 0, 40, 40))])
    )
    evaluator = CocoEvaluator(path, THREE)
    evaluator.update([1], [detections([0, 0, 40, 40, 0.9, 1])])
    metrics = evaluator.compute()
    # precision 1 at the 51 recall thresholds 0, .01, ... .50, none at the other 50
    assert_close([metrics["AP"], metrics["APm"], metrics["AR100"]], [51 / 101, 51 / 101, 0.5])
    assert math.isnan(metrics["APs"])
    assert math.isnan(metrics["APl"])


@pytest.mark.parametrize("ids", [[0, 1], [0, 0], [4, 4], [None, None]])
def test_annotation_ids_do_not_matter(tmp_path, ids):
    content = coco([1], [(1, 1, (0, 0, 40, 40)), (1, 3, (100, 0, 40, 40))])
    for annotation, annotation_id in zip(content["annotations"], ids, strict=True):
        annotation["id"] = annotation_id
    evaluator = CocoEvaluator(write_json(tmp_path / "a.json", content), THREE)
    evaluator.update([1], [detections([0, 0, 40, 40, 0.9, 1], [100, 0, 140, 40, 0.8, 2])])
    assert_close(evaluator.compute()["AP"], 1.0)


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
def test_no_detections_no_objects_and_no_images(tmp_path, backend):
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    some = write_json(tmp_path / "some.json", coco([1, 2], [(1, 1, (0, 0, 40, 40))]))
    evaluator = CocoEvaluator(some, THREE, backend=backend)
    assert math.isnan(evaluator.compute()["AP"])
    evaluator.update([1, 2], [Detections.empty(), Detections.empty()])
    metrics = evaluator.compute()
    assert (metrics["AP"], metrics["AR100"], evaluator.results()) == (0.0, 0.0, [])
    none = write_json(tmp_path / "none.json", coco([1], []))
    evaluator = CocoEvaluator(none, THREE, backend=backend)
    evaluator.update([1], [detections([0, 0, 40, 40, 0.9, 1])])
    plain = metrics_as_json(evaluator.compute())
    assert [plain[name] for name in SUMMARY_NAMES] == [None] * 12
    assert plain["per_class"]["cat"]["AP"] is None
    json.dumps(plain, allow_nan=False)


def test_what_has_no_object_to_find_is_refused_with_the_reason(tmp_path):
    # a crowd, an object of class 7 that is not scored, and the only one of class 1 in image 2
    given = [(1, 1, (0, 0, 40, 40)), (1, 7, (0, 0, 40, 40)), (2, 1, (0, 0, 40, 40))]
    content = coco([1, 2, 3], given)
    content["annotations"][0]["iscrowd"] = 1
    path = write_json(tmp_path / "a.json", content)
    evaluator = CocoEvaluator(path, THREE, scored_ids=[1])
    evaluator.require_objects()
    evaluator.require_objects([3, 2])
    found = "1 crowd regions, 1 objects of classes that are not scored, 1 objects in other images"
    with pytest.raises(ValueError, match=rf"a\.json: .* in the 2 images .* \({found}\), so"):
        evaluator.require_objects([1, 3])
    with pytest.raises(ValueError, match="in the 0 images"):
        evaluator.require_objects([])


def test_one_class(tmp_path):
    one = Categories((5,), ("cell",))
    path = write_json(tmp_path / "a.json", coco([1], [(1, 5, (0, 0, 40, 40))], one))
    evaluator = CocoEvaluator(path, one)
    evaluator.update([1], [detections([0, 0, 40, 40, 0.9, 1])])
    metrics = evaluator.compute()
    assert_close(metrics["AP"], 1.0)
    assert_close(metrics["per_class"]["cell"]["AP"], 1.0)


def test_classes_in_common_are_scored_and_the_others_left_out(tmp_path, caplog):
    detector = Categories((7, 8), ("zebra", "yak"))
    path = write_json(
        tmp_path / "a.json", coco([1], [(1, 7, (0, 0, 40, 40)), (1, 1, (50, 0, 40, 40))])
    )
    evaluator = CocoEvaluator(path, detector)
    evaluator.update([1], [detections([0, 0, 40, 40, 0.9, 1], [0, 0, 40, 40, 0.9, 2])])
    assert_close(evaluator.compute()["AP"], 1.0)
    assert evaluator.unknown_class == 1
    assert [r["category_id"] for r in evaluator.results()] == [7]
    assert "category ids [1, 3]" in caplog.text


def test_an_image_counts_once_until_reset(tmp_path):
    path = write_json(tmp_path / "a.json", coco([1], [(1, 1, (0, 0, 40, 40))]))
    evaluator = CocoEvaluator(path, THREE)
    evaluator.update([1, 1], [detections([0, 0, 40, 40, 0.9, 1])] * 2)
    evaluator.update([1], [detections([0, 0, 40, 40, 0.9, 1])])
    assert len(evaluator.results()) == 1
    evaluator.reset()
    assert (evaluator.results(), evaluator.image_count) == ([], 0)


def test_numbers_that_are_none_are_dropped_and_counted(tmp_path):
    path = write_json(tmp_path / "a.json", coco([1], [(1, 1, (0, 0, 40, 40))]))
    evaluator = CocoEvaluator(path, THREE)
    evaluator.update([1], [detections([0, 0, 40, math.inf, 0.9, 1], [0, 0, 9, 9, math.nan, 1])])
    assert (evaluator.results(), evaluator.not_finite) == ([], 2)
    assert any("NaN" in remark for remark in evaluator.diagnose())


def test_unknown_images_and_backends_are_refused(tmp_path):
    path = write_json(tmp_path / "a.json", coco([1], []))
    evaluator = CocoEvaluator(path, THREE, backend="fastest")
    with pytest.raises(ValueError, match=r"has no images \[2\]: 1 of 2 image ids"):
        evaluator.update([1, 2], [Detections.empty()] * 2)
    evaluator.update([1], [Detections.empty()])
    with pytest.raises(ValueError, match="backend must be"):
        evaluator.compute()


def test_evaluation_is_silent(scene, capsys):
    path, results = scene
    evaluator = CocoEvaluator(path)
    evaluator.update_results(results)
    evaluator.compute()
    assert capsys.readouterr().out == ""


def test_processes_join_and_an_image_dealt_twice_counts_once():
    large = 2**62 + 1  # a float would hold 2**62
    one = detections([0, 0, 5, 5, 0.9, 1])
    ids = np.array([0, 1, 3, 7])
    parts = [
        (concatenate([rows_of_image(image_id, one, ids) for image_id in images]), images)
        for images in ([1, large], [3, 1, large - 1])
    ]
    rows, added = _join(parts)
    assert added == [1, large, 3, large - 1]
    assert rows.image_ids.tolist() == added


def _evaluate_a_share(rank, folder):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    content = json.loads((folder / "results.json").read_text())
    evaluator = CocoEvaluator(folder / "truth.json", THREE)
    images = evaluator.image_ids
    for image_id in images[rank::2] + images[:1]:  # padded as DistributedSampler does
        mine = [r for r in content if r["image_id"] == image_id]
        evaluator.update([image_id], [as_detections(mine)])
    (folder / f"{rank}.json").write_text(json.dumps(figures(evaluator.compute())))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_get_the_figures_of_one(scene, tmp_path):
    path, results = scene
    write_json(tmp_path / "results.json", results)
    multiprocessing.spawn(_evaluate_a_share, (tmp_path,), nprocs=2)
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert_close(found, pycocotools_figures(path, results), rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.data
@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
def test_the_coco_apis_own_example(backend):
    root = os.environ.get("IGCV3DET_DATA")
    if not root or not (Path(root) / "cocoapi_fakebbox100").is_dir():
        pytest.skip("set IGCV3DET_DATA to a folder with cocoapi_fakebbox100")
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    folder = Path(root) / "cocoapi_fakebbox100"
    truth, results = sorted(folder.glob("*.json"), key=lambda path: "results" in path.name)
    evaluator = CocoEvaluator(truth, backend=backend)
    evaluator.update_results(results)
    found = figures(evaluator.compute())
    assert_close(found, pycocotools_figures(truth, str(results)), rtol=0, atol=1e-12)
    # as printed by the COCO API's demo
    published = [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595]
    assert [round(figure, 3) for figure in found[:9]] == published


@pytest.mark.parametrize("backend", ["pycocotools", "faster-coco-eval"])
def test_any_63_bit_ids(tmp_path, backend):
    hypothesis = pytest.importorskip("hypothesis", reason="needs the extra igcv3det[test]")
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval")
    strategies = hypothesis.strategies
    number = strategies.integers(0, 2**63 - 1) | strategies.integers(2**53, 2**53 + 5)

    @hypothesis.settings(max_examples=20, deadline=None, database=None)
    @hypothesis.given(
        strategies.lists(number, min_size=1, max_size=4, unique=True),
        strategies.lists(number, min_size=2, max_size=2, unique=True),
    )
    def run(image_ids, category_ids):
        classes = Categories(tuple(category_ids), ("a", "b"))
        boxes = [(i, category_ids[i % 2], (5 * i, 0, 40, 40)) for i in range(len(image_ids))]
        truth = coco(image_ids, [(image_ids[i], *rest) for i, *rest in boxes], classes)
        path = write_json(tmp_path / "truth.json", truth)
        evaluator = CocoEvaluator(path, classes, backend=backend)
        for i, _, (x, y, w, h) in boxes:
            label = i % 2 + 1
            evaluator.update([image_ids[i]], [detections([x, y, x + w, y + h, 0.9, label])])
        assert [r["image_id"] for r in evaluator.results()] == image_ids
        assert [r["category_id"] for r in evaluator.results()] == [box[1] for box in boxes]
        assert_close(evaluator.compute()["AP"], 1.0)
        evaluator.save_results(tmp_path / "results.json")
        again = CocoEvaluator(path, backend=backend)
        again.update_results(tmp_path / "results.json")
        assert_close(again.compute()["AP"], 1.0)

    run()


def test_unusable_entries_are_dropped_and_reported(tmp_path, caplog):
    content = coco([1], [(1, 1, (0, 0, 40, 40)), (9, 1, (0, 0, 5, 5)), (1, 99, (0, 0, 5, 5))])
    content["annotations"].append({"image_id": 1, "category_id": 1, "iscrowd": 0})
    evaluator = CocoEvaluator(write_json(tmp_path / "a.json", content), THREE)
    assert evaluator.left_out == 3
    assert "1 unknown image, 1 unknown category, 1 bad box" in caplog.text
    evaluator.update([1], [detections([0, 0, 40, 40, 0.9, 1])])
    assert_close(evaluator.compute()["AP"], 1.0)
